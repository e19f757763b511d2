"""Pretraining on CIFAR-100: 200 epochs, 10 of them warm-up, the batch of one process.

At the end stand what single runs have of their own.
"""

train_dataloader = dict(dataset=dict(type='CIFAR100', root='data/cifar-100-binary'))
auto_scale_lr = dict(enable=True)
train_cfg = dict(max_epochs=200)
param_scheduler = [
    dict(type='WarmUpLR', begin=0, end=10, convert_to_iter_based=True),
    dict(type='CosineAnnealingLR', eta_min_ratio=0.0, begin=10, convert_to_iter_based=True),
]

# iBOT's weight decay has a schedule, and its prototypes stand still for one epoch.
_ibot = dict(
    model=dict(freeze_prototypes=1 / 200),
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
