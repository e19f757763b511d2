"""Detection overnight: COCO at 640 px, 12 epochs of 117,266 images, 16 a step in one process.

Length and rate are those of base_configs/det_mask_rcnn_1x.py: rate x 0.1 after 8 and 11 epochs, and
1e-4 whatever the recipe's batch was.
"""

_size = (640, 640)
_train = [
    dict(type='LoadImageFromFile', color_type='color_ignore_orientation'),
    dict(type='LoadAnnotations', with_bbox=True, with_mask=True),
    dict(type='RandomFlip', prob=0.5),
    dict(type='RandomResize', scale=_size, ratio_range=(0.1, 2.0), keep_ratio=True),
    dict(
        type='RandomCrop',
        crop_type='absolute',
        crop_size=_size,
        recompute_bbox=True,
        allow_negative_crop=True,
    ),
    dict(type='FilterAnnotations', min_gt_bbox_wh=(1e-2, 1e-2)),
    dict(type='PackDetInputs'),
]
_test = [
    dict(type='LoadImageFromFile', color_type='color_ignore_orientation'),
    dict(type='Resize', scale=_size, keep_ratio=True),
    dict(type='LoadAnnotations', with_bbox=True, with_mask=True),
    dict(
        type='PackDetInputs',
        meta_keys=('img_id', 'img_path', 'ori_shape', 'img_shape', 'scale_factor'),
    ),
]

train_dataloader = dict(batch_size=16, num_workers=12, dataset=dict(pipeline=_train))
val_dataloader = dict(dataset=dict(pipeline=_test))
test_dataloader = val_dataloader
model = dict(data_preprocessor=dict(pad_size_divisor=640))
auto_scale_lr = dict(base_batch_size=16)
train_cfg = dict(max_iters=87_950, val_interval=87_950)
param_scheduler = [
    dict(type='WarmUpLR', start_factor=0.001, by_epoch=False, begin=0, end=250),
    dict(type='MultiStepLR', milestones=[58_633, 80_620], gamma=0.1, by_epoch=False),
]
default_hooks = dict(checkpoint=dict(interval=4_000))

del _size, _train, _test
