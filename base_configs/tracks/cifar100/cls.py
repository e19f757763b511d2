"""Classification on CIFAR-100, one process; few labels are for ImageNet.

LARS moves a matrix by a fraction of its norm per step: for 2,160 steps of 2,048 images instead of
the recipe's 7,020 the probe's rate is 20 instead of 6.4. Fine-tuning takes 100 epochs in batches of
512, whose rate follows. None of it has been tuned.
"""

_images = dict(dataset=dict(type='CIFAR100', root='data/cifar-100-binary'))
_trained = dict(
    model=dict(num_classes=100),
    val_dataloader=_images,
)
test_dataloader = _images

linear = dict(
    train_dataloader=_images,
    auto_scale_lr=dict(base_batch_size=2048, enable=True),
    optim_wrapper=dict(optimizer=dict(lr=20.0)),
    **_trained,
)
# Plain SGD has no scale of its own: the recipes' rates, which follow the batch of one process.
mocov3_linear = dict(
    auto_scale_lr=dict(base_batch_size=1024), optim_wrapper=dict(optimizer=dict(lr=12.0))
)
ibot_linear = dict(
    auto_scale_lr=dict(base_batch_size=1024), optim_wrapper=dict(optimizer=dict(lr=4.0))
)
finetune = dict(
    train_dataloader=dict(batch_size=512, **_images),
    auto_scale_lr=dict(enable=True),
    train_cfg=dict(max_epochs=100),
    **_trained,
)
knn = dict(test_cfg=dict(bank_dataloader=_images))
lowshot = None

del _images, _trained
