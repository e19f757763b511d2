"""Overlay for det_configs/ on the embedded sample: 64 px scenes with one to three blobs.

Besides data, size and length it changes the rate, 1e-3 instead of 1e-4 for the short training, and
trains on 160 of the 1,600 scenes, transfer with few labels. The pyramid keeps the student's 64
channels, as the full-scale one keeps its 192 (in 256): with 32, random weights did better than
CoMAD's (box AP50 0.58 and 0.54, means of three seeds).
"""

image_size = (64, 64)
train_pipeline = [
    dict(type='LoadImageFromFile', color_type='color_ignore_orientation'),
    dict(type='LoadAnnotations', with_bbox=True, with_mask=True),
    dict(type='RandomResize', scale=image_size, ratio_range=(0.75, 1.5), keep_ratio=True),
    dict(
        type='RandomCrop',
        crop_type='absolute',
        crop_size=image_size,
        recompute_bbox=True,
        allow_negative_crop=True,
    ),
    dict(type='FilterAnnotations', min_gt_bbox_wh=(1e-2, 1e-2)),
    dict(type='RandomFlip', prob=0.5),
    dict(type='PackDetInputs'),
]
test_pipeline = [
    dict(type='LoadImageFromFile', color_type='color_ignore_orientation'),
    dict(type='Resize', scale=image_size, keep_ratio=True),
    dict(type='LoadAnnotations', with_bbox=True, with_mask=True),
    dict(
        type='PackDetInputs',
        meta_keys=('img_id', 'img_path', 'ori_shape', 'img_shape', 'scale_factor'),
    ),
]
patterns = (
    'stripes', 'checks', 'dots', 'grid', 'zigzag', 'rings', 'bricks', 'spots', 'diamonds', 'dashes',
)  # fmt: skip
metainfo = dict(classes=patterns)

train_dataloader = dict(
    batch_size=16,
    num_workers=0,
    persistent_workers=False,
    dataset=dict(metainfo=metainfo, pipeline=train_pipeline, indices=160),
)
val_dataloader = dict(
    batch_size=25,
    num_workers=0,
    persistent_workers=False,
    dataset=dict(metainfo=metainfo, pipeline=test_pipeline),
)
test_dataloader = val_dataloader

heads = dict(in_channels=64, conv_out_channels=32, num_classes=10)
extractor = dict(out_channels=64)
model = dict(
    data_preprocessor=dict(pad_size_divisor=64),
    backbone=dict(out_indices=(3,), window_size=4, global_blocks=(1, 3)),
    neck=dict(in_channels=64, out_channels=64, patch_size=8),
    rpn_head=dict(in_channels=64, feat_channels=32, anchor_generator=dict(scales=[4])),
    roi_head=dict(
        bbox_roi_extractor=extractor,
        mask_roi_extractor=extractor,
        bbox_head=dict(fc_out_channels=128, **heads),
        mask_head=dict(num_convs=2, **heads),
    ),
    train_cfg=dict(
        rpn_proposal=dict(nms_pre=200, max_per_img=100),
        rcnn=dict(sampler=dict(num=32)),
    ),
    test_cfg=dict(
        rpn=dict(nms_pre=200, max_per_img=50),
        rcnn=dict(max_per_img=10),
    ),
)

optim_wrapper = dict(optimizer=dict(lr=1e-3))
train_cfg = dict(max_iters=200, val_interval=200)
param_scheduler = [
    dict(type='WarmUpLR', start_factor=0.001, by_epoch=False, begin=0, end=35),
    dict(type='MultiStepLR', milestones=[178, 193], gamma=0.1, by_epoch=False),
]
default_hooks = dict(checkpoint=dict(interval=200))
