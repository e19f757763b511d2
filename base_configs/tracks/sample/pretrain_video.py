"""Pretraining on the sample's clips: 4 frames of 64 px at stride 4, batch 32, one crop, no flips.

1,200 clips are 37 steps an epoch. Rates and clipping follow from the length: 900 steps instead of
94,000 move a network from scratch nowhere at the recipe's norm of 0.02. The rate of a teacher stays
low, since the raw outputs of its blocks grow with it and drown the pixels beside them.
"""

train_dataloader = dict(
    batch_size=32,
    num_workers=0,
    persistent_workers=False,
    pin_memory=False,
    dataset=dict(
        root='data/sample_video/kinetics400',
        classes=10,
        sampling=dict(frames=4, stride=4),
        views=dict(size=64, samples=1),
    ),
)
# Equal on all machines, and nothing to wait for at the start.
optim_wrapper = dict(dtype='float32', optimizer=dict(lr=1e-3), clip_grad=dict(max_norm=1.0))
compile = False
train_cfg = dict(max_epochs=24)
param_scheduler = [
    dict(type='WarmUpLR', begin=0, end=2, linspace=True, convert_to_iter_based=True),
    dict(type='CosineAnnealingLR', eta_min_ratio=2 / 240, begin=2, convert_to_iter_based=True),
]
default_hooks = dict(checkpoint=dict(interval=24))
