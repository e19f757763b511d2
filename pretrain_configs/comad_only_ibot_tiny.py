"""Ablation of CoMAD: iBOT is the only teacher (K = 1), under its mask ratio of comad_tiny.

    tools/pretrain.sh comad_only_ibot
    tools/pretrain.sh comad_only_ibot --sample

Hardware and time: below comad_tiny; not yet measured. Figure to reach: not published.
"""

_base_ = './comad_tiny.py'

model = dict(
    teachers=[
        dict(
            family='ibot',
            checkpoint='teachers/vitb_16/checkpoint_teacher.pth',
            arch='base',
            mask_ratio=0.2,
        ),
    ],
)
