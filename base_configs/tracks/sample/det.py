"""Overlay for det_configs/ on the embedded sample: 64 px scenes with one to three blobs.

The backbone stays frozen: heads trained on 400 of the 1,600 scenes show what pretraining has put
into it, where fine-tuning would teach patterns to any network. Windows of 4 x 4 tokens would see
less than one blob, so attention stays global, and the class token stays with it. Four changes let
240 steps do what 184,375 do: the pyramid brings channels to equal size, the box classifier starts
at a standard deviation of 0.1 (with mmdet's 0.01 blobs are found and no pattern is told from
another), half of the 16 sampled boxes hold a blob, and images keep their size. The rate is 2e-3
instead of 1e-4, with gradients clipped. A blob is 7 x 7 cells of one sample for boxes and masks,
its mask is learned at 14 x 14 and ViTDet's box head has two convolutions instead of four, which
takes two thirds of the time.
"""

image_size = (64, 64)
train_pipeline = [
    dict(type='LoadImageFromFile', color_type='color_ignore_orientation'),
    dict(type='LoadAnnotations', with_bbox=True, with_mask=True),
    dict(type='Resize', scale=image_size, keep_ratio=True),
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
    dataset=dict(metainfo=metainfo, pipeline=train_pipeline, indices=400),
)
val_dataloader = dict(
    batch_size=25,
    num_workers=0,
    persistent_workers=False,
    dataset=dict(metainfo=metainfo, pipeline=test_pipeline),
)
test_dataloader = val_dataloader

heads = dict(in_channels=64, conv_out_channels=32, num_classes=10)
box_init = [
    dict(type='Normal', std=0.1, override=dict(name='fc_cls')),
    dict(type='Normal', std=0.001, override=dict(name='fc_reg')),
    dict(type='Xavier', distribution='uniform', override=dict(name='shared_fcs')),
]
extractor = dict(out_channels=64, roi_layer=dict(output_size=7, sampling_ratio=1))
model = dict(
    data_preprocessor=dict(pad_size_divisor=64),
    backbone=dict(out_indices=(3,), frozen=True, with_cls=True, window_size=0, global_blocks=()),
    neck=dict(in_channels=64, out_channels=64, patch_size=8, standardize=True),
    rpn_head=dict(in_channels=64, feat_channels=32, anchor_generator=dict(scales=[4])),
    roi_head=dict(
        bbox_roi_extractor=extractor,
        mask_roi_extractor=extractor,
        bbox_head=dict(
            type='ConvFCBBoxHead',
            num_shared_convs=2,
            num_shared_fcs=1,
            fc_out_channels=128,
            init_cfg=box_init,
            **heads,
        ),
        mask_head=dict(num_convs=2, **heads),
    ),
    train_cfg=dict(
        rpn_proposal=dict(nms_pre=200, max_per_img=100),
        rcnn=dict(sampler=dict(num=16, pos_fraction=0.5), mask_size=14),
    ),
    test_cfg=dict(
        rpn=dict(nms_pre=200, max_per_img=50),
        rcnn=dict(max_per_img=10),
    ),
)

optim_wrapper = dict(optimizer=dict(lr=2e-3), clip_grad=dict(max_norm=1.0))
train_cfg = dict(max_iters=240, val_interval=240)
param_scheduler = [
    dict(type='WarmUpLR', start_factor=0.001, by_epoch=False, begin=0, end=30),
    dict(type='CosineAnnealingLR', eta_min_ratio=0.0, by_epoch=False, begin=0),
]
default_hooks = dict(checkpoint=dict(interval=240))
