"""Pretraining on a track of one process: the rate follows the batch, 10 epochs are warm-up.

The batch is what one process of the recipe has, 512 images mostly. A track's overlay adds data and
length. At the end stand what single runs have of their own.
"""

auto_scale_lr = dict(enable=True)
param_scheduler = [
    dict(type='WarmUpLR', begin=0, end=10, convert_to_iter_based=True),
    dict(type='CosineAnnealingLR', eta_min_ratio=0.0, begin=10, convert_to_iter_based=True),
]

# iBOT's weight decay has a schedule.
_ibot = dict(
    param_scheduler=[
        dict(type='WarmUpLR', begin=0, end=10, linspace=True, convert_to_iter_based=True),
        dict(type='CosineAnnealingLR', eta_min_ratio=5e-4, begin=10, convert_to_iter_based=True),
        dict(
            type='CosineAnnealingParamScheduler',
            param_name='weight_decay',
            eta_min_ratio=10.0,
            convert_to_iter_based=True,
        ),
    ],
)
ibot_tiny = _ibot
ibot_base = _ibot

del _ibot
