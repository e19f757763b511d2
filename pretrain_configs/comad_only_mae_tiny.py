"""Ablation of CoMAD: MAE is the only teacher (K = 1), under its mask ratio of comad_tiny.

    tools/pretrain.sh comad_only_mae
    tools/pretrain.sh comad_only_mae --sample

Hardware and time: below comad_tiny; not yet measured. Figure to reach: not published.
"""

_base_ = './comad_tiny.py'

model = dict(
    teachers=[
        dict(
            family='mae',
            checkpoint='teachers/mae_pretrain_vit_base.pth',
            arch='base',
            mask_ratio=0.6,
        ),
    ],
)
