"""Mask R-CNN with ViTDet's recipe on a plain ViT-Tiny, COCO, 100 epochs.

From ViTDet (arXiv:2203.16527 and its released B config): 1024 px, large-scale jittering 0.1-2,
184,375 iterations of 64 images, AdamW 1e-4, rate x 0.1 at 163,889 and 177,546, 250 warm-up
iterations from 0.001 of the rate, layer decay 0.7, drop path 0.1, attention windows of 14 tokens
with global blocks 2/5/8/11 (0-based), no class token, simple feature pyramid from the last raw map,
RPN with 2 convolutions, box head 4conv1fc and mask head with LayerNorm.

The backbone's norms and positions are free of weight decay; biases are decayed, and so are the
channel-first norms of pyramid and heads (34 tensors), which Detectron2's rule does not know.

Ours: weight decay 0.05 instead of ViTDet's and G2SD's 0.1 (as MAE-Lite does for its ViT-Tiny), no
relative positions, since the students have none; mmdet's heads start otherwise than Detectron2's
(mask predictor at std 0.16 instead of 0.001, box layer at 0.012 instead of 0.009), and its images
are made smaller by OpenCV without antialias. Version 2 decays those norms and reaches the full rate
one step later, at 250.
"""

_base_ = ['./runtime.py', './det_coco.py', 'mmdet::_base_/models/mask-rcnn_r50_fpn.py']

default_scope = 'mmdet'
protocol = dict(
    name='mask_rcnn_vitdet_coco',
    version=2,
    published='g2sd_mask_rcnn',
    deviations=dict(
        weight_decay="MAE-Lite's, for its ViT-Tiny",
        resize_filter="mmdet's; backend='pillow' in the pipelines is Detectron2's",
        head_start="mmdet's heads as they are",
        relative_positions='students are pretrained without; model.backbone.rel_pos=True adds them',
        precision='float32 unless --amp is given, which is bfloat16',
    ),
)
norm_cfg = dict(type='LayerNorm2d', eps=1e-6)

model = dict(
    # Pads after normalisation with zeros to the full square, training and test alike.
    data_preprocessor=dict(pad_size_divisor=1024),
    backbone=dict(
        _delete_=True,
        type='MaskedViT',
        arch='tiny',
        drop_path_rate=0.1,
        out_indices=(11,),
        out_norm=False,
        with_cls=False,
        window_size=14,
        global_blocks=(2, 5, 8, 11),
    ),
    neck=dict(
        _delete_=True,
        type='SimpleFeaturePyramid',
        in_channels=192,
        out_channels=256,
        patch_size=16,
        strides=(4, 8, 16, 32, 64),
    ),
    rpn_head=dict(num_convs=2),
    roi_head=dict(
        bbox_head=dict(type='Shared4Conv1FCBBoxHead', conv_out_channels=256, norm_cfg=norm_cfg),
        mask_head=dict(norm_cfg=norm_cfg),
    ),
)

optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(type='AdamW', lr=1e-4, betas=(0.9, 0.999), weight_decay=0.05, fused=True),
    constructor='LayerWiseDecayConstructor',
    paramwise_cfg=dict(decay_rate=0.7, bias_decay_mult=1.0, channel_norm_decay_mult=1.0),
)
auto_scale_lr = dict(base_batch_size=64)

train_cfg = dict(type='IterBasedTrainLoop', max_iters=184_375, val_interval=20_000)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')
param_scheduler = [
    dict(type='WarmUpLR', start_factor=0.001, by_epoch=False, begin=0, end=250),
    dict(type='MultiStepLR', milestones=[163_889, 177_546], gamma=0.1, by_epoch=False),
]
default_hooks = dict(
    checkpoint=dict(by_epoch=False, interval=20_000),
    logger=dict(interval=50, log_metric_by_epoch=False),
    prediction_figure=dict(type='PredictionFigureHook', images=4),
    per_class=dict(type='PerClassHook'),
    run_record=dict(type='RunRecordHook'),
)
log_processor = dict(by_epoch=False)
