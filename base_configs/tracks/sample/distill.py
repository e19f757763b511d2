"""Overlay for distill_configs/ on the embedded sample: digits of 32 px, shown at 64, 10 classes.

Besides data, size and length it takes out what costs more epochs than there are: flips, since a
mirrored digit is none, RandAugment, erasing, mixup. Rates stand in the leaves.
"""

_loader = dict(num_workers=0, persistent_workers=False, pin_memory=False)
_centre = dict(
    dataset=dict(views=dict(size=64, resize=64)),
    batch_size=250,
    **_loader,
)
model = dict(num_classes=10, mixup=None)
train_dataloader = dict(
    dataset=dict(views=dict(size=64, scale=(0.8, 1.0), flip=0.0, auto_augment=None, re_prob=0.0)),
    batch_size=64,
    **_loader,
)
val_dataloader = _centre
test_dataloader = _centre
train_cfg = dict(max_epochs=5, val_interval=5)
default_hooks = dict(checkpoint=dict(interval=1))
imagenet = dict()
cifar100 = dict()

del _loader, _centre
