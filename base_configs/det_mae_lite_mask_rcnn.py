"""Mask R-CNN with MAE-Lite's recipe for a ViT-Tiny, COCO at 640 px, 100 epochs.

From MAE-Lite's released detection config (wangsr126/MAE-Lite, mask_rcnn_vitdet_t_100ep): 640 px in
training and test, large-scale jittering 0.1-2, 184,375 iterations of 64 images, AdamW 1e-4, weight
decay 0.05, rate x 0.1 at 24/27 and 26/27, 250 warm-up iterations from 0.001 of the rate, no drop
path, no layer decay. Heads, pyramid, windows and exemptions from weight decay are ViTDet's, as in
det_mask_rcnn_vit_tiny.py.

MAE-Lite has 12 heads and ViTDet's relative positions. Ours: 3 heads, and no relative positions
unless asked for: --cfg-options model.backbone.rel_pos=True. It trains in mixed precision; here that
is --amp.
"""

_base_ = './det_mask_rcnn_vit_tiny.py'

protocol = dict(
    _delete_=True,
    name='mae_lite_mask_rcnn_coco',
    version=2,
    published='mae_lite_mask_rcnn',
    deviations=dict(
        resize_filter="mmdet's; backend='pillow' in the pipelines is Detectron2's",
        head_start="mmdet's heads as they are",
        relative_positions='students are pretrained without; model.backbone.rel_pos=True adds them',
        precision='float32 unless --amp is given, which is bfloat16',
    ),
)

# Whole pipelines: a size set here would not reach those of the base, and lists are not merged.
image_size = (640, 640)
train_pipeline = [
    dict(type='LoadImageFromFile', color_type='color_ignore_orientation'),
    dict(type='LoadAnnotations', with_bbox=True, with_mask=True),
    dict(type='RandomFlip', prob=0.5),
    dict(type='RandomResize', scale=image_size, ratio_range=(0.1, 2.0), keep_ratio=True),
    dict(
        type='RandomCrop',
        crop_type='absolute',
        crop_size=image_size,
        recompute_bbox=True,
        allow_negative_crop=True,
    ),
    dict(type='FilterAnnotations', min_gt_bbox_wh=(1e-2, 1e-2)),
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
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader

model = dict(
    data_preprocessor=dict(pad_size_divisor=640),
    backbone=dict(drop_path_rate=0.0, rel_pos_grid=40),
)
optim_wrapper = dict(paramwise_cfg=dict(decay_rate=1.0))
param_scheduler = [
    dict(type='WarmUpLR', start_factor=0.001, by_epoch=False, begin=0, end=250),
    dict(type='MultiStepLR', milestones=[163_888, 177_546], gamma=0.1, by_epoch=False),
]
