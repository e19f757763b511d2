"""What trainings of classifiers of images share: loaders, accuracy, loops."""

_base_ = './runtime.py'

train_dataloader = dict(
    num_workers=12,
    persistent_workers=True,
    pin_memory=True,
    drop_last=True,
    sampler=dict(type='DefaultSampler', shuffle=True),
)
val_dataloader = dict(
    batch_size=256,
    num_workers=8,
    persistent_workers=True,
    pin_memory=True,
    sampler=dict(type='DefaultSampler', shuffle=False),
)
test_dataloader = val_dataloader
val_evaluator = dict(type='Accuracy', topk=(1, 5))
test_evaluator = val_evaluator
optim_wrapper = dict(type='OptimWrapper', constructor='LayerWiseDecayConstructor')
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')
