"""Ablation of CoMAD: MoCo v3 is the only teacher (K = 1), under its mask ratio of comad_tiny.

    tools/pretrain.sh comad_only_mocov3
    tools/pretrain.sh comad_only_mocov3 --sample

Hardware and time: below comad_tiny; not yet measured. Figure to reach: not published.
"""

_base_ = './comad_tiny.py'

model = dict(
    teachers=[
        dict(
            family='mocov3',
            checkpoint='teachers/vit-b-300ep.pth.tar',
            arch='base',
            mask_ratio=0.4,
        ),
    ],
)
