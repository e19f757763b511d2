"""Overlay for seg_configs/ on the embedded sample: 64 px scenes, background and ten patterns.

Besides data, size and length it changes two things that the short training needs. The rate is 3e-3
instead of 1e-4. The classifiers start at a standard deviation of 0.1 instead of mmseg's 0.01: with
0.01 training stays for hundreds of iterations where strokes are found but no digit is told from
another, and everything is called background.

What stands at the top is merged into every kind of config, then the dictionary named like the kind.
"""

crop = (64, 64)
patterns = (
    'stripes', 'checks', 'dots', 'grid', 'zigzag', 'rings', 'bricks', 'spots', 'diamonds', 'dashes',
)  # fmt: skip
train_pipeline = [
    dict(type='LoadImageFromFile', color_type='color_ignore_orientation'),
    dict(type='LoadAnnotations', reduce_zero_label=True),
    dict(type='RandomResize', scale=crop, ratio_range=(0.75, 1.5), keep_ratio=True),
    dict(type='RandomCrop', crop_size=crop),
    dict(type='RandomFlip', prob=0.5),
    dict(type='PackSegInputs'),
]
test_pipeline = [
    dict(type='LoadImageFromFile', color_type='color_ignore_orientation'),
    dict(type='Resize', scale=crop, keep_ratio=True),
    dict(type='LoadAnnotations', reduce_zero_label=True),
    dict(type='PackSegInputs'),
]
# Scales of the single-scale size, without mirrored images.
tta_pipeline = [
    dict(type='LoadImageFromFile', color_type='color_ignore_orientation'),
    dict(
        type='TestTimeAug',
        transforms=[
            [
                dict(type='Resize', scale=(side, side), keep_ratio=True)
                for side in (32, 48, 64, 80, 96, 112)
            ],
            [dict(type='LoadAnnotations', reduce_zero_label=True)],
            [dict(type='PackSegInputs')],
        ],
    ),
]
# ADE20KDataset accepts subsets of its 150 classes only.
scenes = dict(
    _delete_=True,
    type='BaseSegDataset',
    data_root='data/ade/ADEChallengeData2016',
    img_suffix='.jpg',
    seg_map_suffix='.png',
    reduce_zero_label=True,
    metainfo=dict(classes=('background', *patterns)),
)

train_dataloader = dict(
    batch_size=16,
    num_workers=0,
    persistent_workers=False,
    dataset=dict(
        data_prefix=dict(img_path='images/training', seg_map_path='annotations/training'),
        pipeline=train_pipeline,
        **scenes,
    ),
)
val_dataloader = dict(
    batch_size=50,
    num_workers=0,
    persistent_workers=False,
    dataset=dict(
        data_prefix=dict(img_path='images/validation', seg_map_path='annotations/validation'),
        pipeline=test_pipeline,
        **scenes,
    ),
)
test_dataloader = val_dataloader

classifier_init = dict(type='Normal', std=0.1, override=dict(name='conv_seg'))
head = dict(in_channels=[64] * 4, num_classes=11, init_cfg=classifier_init)
model = dict(
    data_preprocessor=dict(size=crop, test_cfg=dict(size=crop)),
    backbone=dict(out_indices=(0, 1, 2, 3), pos_size=64),
    test_cfg=dict(crop_size=crop, stride=(43, 43)),
)
upernet = dict(
    model=dict(
        neck=dict(in_channels=64, patch_size=8),
        decode_head=dict(channels=32, **head),
        auxiliary_head=dict(in_channels=64, channels=16, num_classes=11, init_cfg=classifier_init),
    )
)
tinymim_upernet = dict(
    model=dict(
        neck=dict(in_channels=64, out_channels=128, patch_size=8),
        decode_head={**head, 'in_channels': [128] * 4, 'channels': 128},
        auxiliary_head=dict(in_channels=128, channels=16, num_classes=11, init_cfg=classifier_init),
    )
)
ibot_seg_linear = dict(model=dict(decode_head=dict(channels=256, **head)))

optim_wrapper = dict(optimizer=dict(lr=3e-3))
train_cfg = dict(max_iters=600, val_interval=600)
param_scheduler = [
    dict(type='WarmUpLR', start_factor=1e-6, by_epoch=False, begin=0, end=40),
    dict(type='PolyLR', power=1.0, eta_min=0.0, by_epoch=False, begin=0),
]
default_hooks = dict(checkpoint=dict(interval=600))
