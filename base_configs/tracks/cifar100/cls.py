"""Classification on CIFAR-100; few labels are for ImageNet.

LARS moves a matrix by a fraction of its norm per step: for 2,160 steps of 2,048 images instead of
the recipe's 7,020 the probe's rate is 20 instead of 6.4.
"""

_base_ = '../../track_cls.py'

_images = dict(dataset=dict(type='CIFAR100', root='data/cifar-100-binary'))
_trained = dict(train_dataloader=_images, val_dataloader=_images)

test_dataloader = _images
linear = dict(optim_wrapper=dict(optimizer=dict(lr=20.0)), **_trained)
# The recipes' rates, which follow the batch of one process.
mocov3_linear = dict(optim_wrapper=dict(optimizer=dict(lr=12.0)))
ibot_linear = dict(optim_wrapper=dict(optimizer=dict(lr=4.0)))
finetune = _trained
knn = dict(test_cfg=dict(bank_dataloader=_images))
lowshot = None

del _images, _trained
