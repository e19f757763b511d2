"""Mask R-CNN on a plain ViT-Tiny for small budgets, COCO at 640 px, 12 epochs: ours, no paper's.

Everything is MAE-Lite's (det_mae_lite_mask_rcnn.py) but the length: mmdet's 1x schedule, 12 epochs
of the 117,266 images with annotations, 16 a step: 87,950 iterations, rate x 0.1 after 8 and 11
epochs. That is about 1/8 of the images of 100 epochs. The rate stays 1e-4, divided neither by 4 nor
by 2 with the batch: it is what iBOT's 12 epochs use at batch 16, and a short training needs it.
"""

_base_ = './det_mae_lite_mask_rcnn.py'

protocol = dict(
    _delete_=True,
    name='mask_rcnn_1x_coco',
    version=2,
    published=None,
)

train_dataloader = dict(batch_size=2)
auto_scale_lr = dict(base_batch_size=16)
train_cfg = dict(max_iters=87_950, val_interval=14_660)
param_scheduler = [
    dict(type='WarmUpLR', start_factor=0.001, by_epoch=False, begin=0, end=250),
    dict(type='MultiStepLR', milestones=[58_633, 80_620], gamma=0.1, by_epoch=False),
]
default_hooks = dict(checkpoint=dict(interval=14_660))
