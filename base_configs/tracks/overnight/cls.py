"""Classification overnight: ImageNet-100, one process.

The probe keeps its length and LARS its rate: LARS moves a matrix by a fraction of its norm per
step, and 5,490 steps of 2,048 images are about as many as the recipe's 7,020 of 16,384. Its
features are those of ten passes, computed once: decoding 90 would take an hour of the night.
Fine-tuning takes 100 epochs in batches of 512, whose rate follows. None of it has been tuned.
"""

_images = dict(dataset=dict(classes='imagenet-100'))
_trained = dict(
    model=dict(num_classes=100),
    val_dataloader=_images,
)
test_dataloader = _images

linear = dict(
    train_dataloader=_images,
    auto_scale_lr=dict(base_batch_size=2048, enable=True),
    train_cfg=dict(cached_passes=10),
    **_trained,
)
# Plain SGD has no scale of its own: its rate follows the batch of one process.
mocov3_linear = dict(auto_scale_lr=dict(base_batch_size=1024))
ibot_linear = mocov3_linear
finetune = dict(
    train_dataloader=dict(batch_size=512, **_images),
    auto_scale_lr=dict(enable=True),
    train_cfg=dict(max_epochs=100),
    **_trained,
)
knn = dict(test_cfg=dict(bank_dataloader=_images))
lowshot = knn

del _images, _trained
