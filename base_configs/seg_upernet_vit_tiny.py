"""UperNet on a plain ViT-Tiny, ADE20K, 160k iterations.

Shared by BEiT, MAE (mmseg), iBOT, TinyMIM and G2SD: 512 px crops, batch 16, AdamW, weight decay
0.05, a rate that falls linearly to 0 over all iterations, times 1,500 warm-up iterations from 1e-6
of it (as in mmcv 1; mmseg 1.x begins to fall after the warm-up), drop path 0.1, a position table
that is resized to 512 px once and then trained, maps after blocks 3/5/7/11 (0-based), adapters to
strides 4/8/16/32, auxiliary FCN head of 256 channels on the third map, single-scale sliding test
512/341.

Where they differ: rate 1e-4 and layer decay 0.65 (MAE, G2SD), raw block outputs (BEiT, MAE; iBOT
normalises each), a UPerHead 192 wide (G2SD-T's published ViT-Tiny setting, 4.3M parameters; 768
would put 61M on a 5.5M backbone). Ours: no relative positions and no LayerScale, since the students
have none; biases, norms, positions and the class token are free of weight decay (their code looks
for the last two under names without ``backbone.`` and so decays them). They train in mixed
precision; here that is --amp. Version 2 resizes the table once (version 1: in every pass) and
follows mmcv 1's rate.
"""

_base_ = ['./runtime.py', './seg_ade20k.py', 'mmseg::_base_/models/upernet_mae.py']

default_scope = 'mmseg'
protocol = dict(
    name='upernet_ade20k',
    version=2,
    published='g2sd_upernet',
    deviations=dict(
        precision='float32 unless --amp is given, which is bfloat16',
        no_weight_decay='their code means to exempt positions and class token but misses the names',
        layer_scale='the students are plain ViTs, pretrained without',
        relative_positions='the students are plain ViTs, pretrained without',
    ),
)

model = dict(
    data_preprocessor=dict(
        size=(512, 512),
        # Very wide images come out of Resize less than 512 high; a sliding window then needs
        # padding to a whole window.
        test_cfg=dict(size=(512, 512)),
    ),
    backbone=dict(
        _delete_=True,
        type='MaskedViT',
        arch='tiny',
        drop_path_rate=0.1,
        out_indices=(3, 5, 7, 11),
        out_norm=False,
        pos_size=512,
    ),
    neck=dict(
        _delete_=True,
        type='MultiLevelPyramid',
        in_channels=192,
        patch_size=16,
        norm_cfg=dict(type='SyncBN'),
    ),
    decode_head=dict(in_channels=[192] * 4, channels=192, num_classes=150),
    auxiliary_head=dict(in_channels=192, channels=256, num_classes=150),
    test_cfg=dict(mode='slide', crop_size=(512, 512), stride=(341, 341)),
)

optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(type='AdamW', lr=1e-4, betas=(0.9, 0.999), weight_decay=0.05, fused=True),
    constructor='LayerWiseDecayConstructor',
    paramwise_cfg=dict(decay_rate=0.65),
)
auto_scale_lr = dict(base_batch_size=16)

train_cfg = dict(type='IterBasedTrainLoop', max_iters=160_000, val_interval=16_000)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')
param_scheduler = [
    dict(type='WarmUpLR', start_factor=1e-6, by_epoch=False, begin=0, end=1500),
    dict(type='PolyLR', power=1.0, eta_min=0.0, by_epoch=False, begin=0),
]
default_hooks = dict(
    checkpoint=dict(by_epoch=False, interval=16_000),
    logger=dict(interval=50, log_metric_by_epoch=False),
    prediction_figure=dict(type='PredictionFigureHook', images=4),
    per_class=dict(type='PerClassHook'),
    run_record=dict(type='RunRecordHook'),
)
log_processor = dict(by_epoch=False)
