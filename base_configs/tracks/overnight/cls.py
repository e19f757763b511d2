"""Classification overnight: ImageNet-100.

The probe keeps its length and LARS its rate: LARS moves a matrix by a fraction of its norm per
step, and 5,490 steps of 2,048 images are about as many as the recipe's 7,020 of 16,384. Its
features are those of ten passes, computed once: decoding 90 would take an hour of the night.
"""

_base_ = '../../track_cls.py'

_images = dict(dataset=dict(classes='imagenet-100'))
_trained = dict(train_dataloader=_images, val_dataloader=_images)

test_dataloader = _images
linear = dict(train_cfg=dict(cached_passes=10), **_trained)
finetune = _trained
knn = dict(test_cfg=dict(bank_dataloader=_images))
lowshot = knn

del _images, _trained
