"""Overlay for cls_configs/ on the embedded sample: 64 px digits, 10 classes, 6,000 / 4,000 images.

What stands at the top is merged into every kind of config, then the dictionary named like the kind.

Rates are the only keys besides data, size and length, and follow from the length. LARS moves a
matrix by a fixed fraction of its norm per step, so the probe's 1,840 steps instead of 7,000 get 4
times the rate; it then comes within 0.01 of logistic regression on the same features. AdamW's rate
goes down with the batch, 1024 to 32: by its square root to 7e-4, rounded up for the short training.
"""

_loader = dict(num_workers=0, persistent_workers=False, pin_memory=False)
_centre = dict(dataset=dict(views=dict(size=64, resize=64)), batch_size=250, **_loader)

test_dataloader = _centre

linear = dict(
    model=dict(num_classes=10),
    train_dataloader=dict(
        dataset=dict(views=dict(size=64, scale=(0.8, 1.0), single_try=False)),
        batch_size=128,
        **_loader,
    ),
    val_dataloader=_centre,
    optim_wrapper=dict(optimizer=dict(lr=25.6)),
    train_cfg=dict(max_epochs=40, cached_passes=1, val_interval=40),
    param_scheduler=[
        dict(type='WarmUpLR', begin=0, end=4, convert_to_iter_based=True),
        dict(type='CosineAnnealingLR', eta_min_ratio=0.0, begin=4, convert_to_iter_based=True),
    ],
    default_hooks=dict(checkpoint=dict(interval=40)),
)
finetune = dict(
    model=dict(num_classes=10),
    # No RandAugment: what it does to the images costs more epochs than there are.
    train_dataloader=dict(
        dataset=dict(
            views=dict(size=64, scale=(0.8, 1.0), auto_augment=None, color_jitter=None)
        ),
        batch_size=32,
        **_loader,
    ),
    val_dataloader=_centre,
    optim_wrapper=dict(optimizer=dict(lr=1e-3)),
    train_cfg=dict(max_epochs=3, val_interval=3),
    param_scheduler=[
        dict(type='WarmUpLR', begin=0, end=1, convert_to_iter_based=True),
        dict(type='CosineAnnealingLR', eta_min_ratio=2.5e-4, begin=1, convert_to_iter_based=True),
    ],
    default_hooks=dict(checkpoint=dict(interval=3)),
)
knn = dict(test_cfg=dict(bank_dataloader=_centre))
lowshot = knn
# Plain SGD has no scale of its own: the recipe's 3 per 256 images, for batches of 128.
mocov3_linear = dict(optim_wrapper=dict(optimizer=dict(lr=1.5)))
ibot_linear = dict(optim_wrapper=dict(optimizer=dict(lr=0.5)))

del _loader, _centre
