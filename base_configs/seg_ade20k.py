"""ADE20K at 512 px as in BEiT, MAE and iBOT: mmseg's pipeline, batch 16 as 8 processes x 2.

``tools/test.py --tta`` tests at six scales and flipped, softmax averaged. The ratios are the
published ones, of the single-scale size 2048 x 512. Ours: what is smaller than a window is padded
to one, where BEiT and iBOT enlarge it, which makes their 0.5 and 0.75 another 1.0; mmseg's own
pipeline takes ratios of each image's original size.
"""

crop_size = (512, 512)
resize = dict(scale=(2048, 512), keep_ratio=True)

train_pipeline = [
    dict(type='LoadImageFromFile', color_type='color_ignore_orientation'),
    dict(type='LoadAnnotations', reduce_zero_label=True),
    dict(type='RandomResize', ratio_range=(0.5, 2.0), **resize),
    dict(type='RandomCrop', crop_size=crop_size, cat_max_ratio=0.75),
    dict(type='RandomFlip', prob=0.5),
    dict(type='PhotoMetricDistortion'),
    dict(type='PackSegInputs'),
]
test_pipeline = [
    dict(type='LoadImageFromFile', color_type='color_ignore_orientation'),
    dict(type='Resize', **resize),
    # After Resize: predictions are brought back to the original size and scored there.
    dict(type='LoadAnnotations', reduce_zero_label=True),
    dict(type='PackSegInputs'),
]
test_scales = [(1024, 256), (1536, 384), (2048, 512), (2560, 640), (3072, 768), (3584, 896)]
tta_model = dict(type='SegTTAModel')
tta_pipeline = [
    dict(type='LoadImageFromFile', color_type='color_ignore_orientation'),
    dict(
        type='TestTimeAug',
        transforms=[
            [dict(type='Resize', scale=scale, keep_ratio=True) for scale in test_scales],
            [dict(type='RandomFlip', prob=0.0), dict(type='RandomFlip', prob=1.0)],
            [dict(type='LoadAnnotations', reduce_zero_label=True)],
            [dict(type='PackSegInputs')],
        ],
    ),
]
ade20k = dict(type='ADE20KDataset', data_root='data/ade/ADEChallengeData2016')

train_dataloader = dict(
    batch_size=2,
    num_workers=4,
    persistent_workers=True,
    sampler=dict(type='InfiniteSampler', shuffle=True),
    dataset=dict(
        data_prefix=dict(img_path='images/training', seg_map_path='annotations/training'),
        pipeline=train_pipeline,
        **ade20k,
    ),
)
val_dataloader = dict(
    batch_size=1,
    num_workers=4,
    persistent_workers=True,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        data_prefix=dict(img_path='images/validation', seg_map_path='annotations/validation'),
        pipeline=test_pipeline,
        **ade20k,
    ),
)
test_dataloader = val_dataloader
# mmseg's IoUMetric, counted faster.
val_evaluator = dict(type='PairIoUMetric', iou_metrics=['mIoU'])
test_evaluator = val_evaluator
