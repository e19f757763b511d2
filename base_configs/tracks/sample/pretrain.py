"""Pretraining on the embedded sample: 64-px images, batch 64, one warm-up epoch.

6,000 training images are 93 steps an epoch.
"""

train_dataloader = dict(
    batch_size=64,
    num_workers=0,
    persistent_workers=False,
    pin_memory=False,
    dataset=dict(views=dict(size=64)),
)
# Equal on all machines, and nothing to wait for at the start.
optim_wrapper = dict(dtype='float32')
compile = False
param_scheduler = [
    dict(type='WarmUpLR', begin=0, end=1, convert_to_iter_based=True),
    dict(type='CosineAnnealingLR', eta_min_ratio=0.0, begin=1, convert_to_iter_based=True),
]
default_hooks = dict(
    checkpoint=dict(interval=1),
    online_probe=dict(interval=1, bank=1000, queries=500, resize=64),
    pretrain_figure=dict(resize=64),
)
