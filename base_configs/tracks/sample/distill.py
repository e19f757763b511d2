"""Overlay for distill_configs/ on the embedded sample: digits of 32 px, shown at 64, 10 classes.

Besides data, size and length it takes out what costs more epochs than there are: flips, since a
mirrored digit is none, RandAugment, erasing, mixup. Rates of students stand in the leaves.

A run of the method `plain` with a part of its own here, `plain_<network>`, makes a teacher: six
times as long, by AdamW. With the students' five epochs Swin-T got 48 % and ConvNeXt-T 19 %, less
than the students trained alone, and had nothing to teach.
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
plain_swin_tiny = plain_convnext_tiny = dict(
    optim_wrapper=dict(
        optimizer=dict(_delete_=True, type='AdamW', lr=2e-3, betas=(0.9, 0.999), weight_decay=0.05),
        clip_grad=dict(max_norm=5.0),
    ),
    param_scheduler=[dict(type='TimmSchedule', warm_up=3, warm_up_rate=1e-4, floor=1e-5)],
    train_cfg=dict(max_epochs=30, val_interval=30),
)

del _loader, _centre
