"""ImageNet pretraining of a ViT at 224 px: 300 epochs, batch 4096 as 8 processes x 512.

The recipe of MAE (arXiv:2111.06377 and its code): AdamW (0.9, 0.95), lr 1.5e-4 x 4096 / 256 =
2.4e-3, weight decay 0.05 without norms, biases, positions and cls token, linear warm-up and a
cosine to 0, random resized crop 0.2-1 (bicubic), flip. Ours: 300 epochs and 15 warm-up epochs for
CoMAD's students; for CoMAD the whole recipe, since arXiv:2508.04816 states none in its abstract.
bfloat16 is ours as well; frozen teachers then compute in it throughout.

Another number of GPUs: --auto-scale-lr keeps lr / batch.
"""

_base_ = './runtime.py'

train_dataloader = dict(
    batch_size=512,
    num_workers=12,
    persistent_workers=True,
    pin_memory=True,
    drop_last=True,
    # Workers stack the images: left to the main process, that alone would hold up a fast GPU.
    collate_fn=dict(type='default_collate'),
    sampler=dict(type='DefaultSampler', shuffle=True),
    dataset=dict(
        type='ImageNetFolder',
        root='data/imagenet',
        split='train',
        views=dict(
            type='SingleView', size=224, scale=(0.2, 1.0), flip=0.5, interpolation='bicubic'
        ),
    ),
)
model = dict(data_preprocessor=dict(type='ImageDataPreprocessor'))

optim_wrapper = dict(
    type='AutocastOptimWrapper',
    dtype='bfloat16',
    optimizer=dict(type='AdamW', lr=2.4e-3, betas=(0.9, 0.95), weight_decay=0.05, fused=True),
    constructor='LayerWiseDecayConstructor',
    paramwise_cfg=dict(),
)
auto_scale_lr = dict(base_batch_size=4096)
param_scheduler = [
    dict(type='WarmUpLR', begin=0, end=15, convert_to_iter_based=True),
    dict(type='CosineAnnealingLR', eta_min_ratio=0.0, begin=15, convert_to_iter_based=True),
]
train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=300)
compile = 'auto'  # on GPUs

visualizer = dict(
    vis_backends=[dict(type='LocalVisBackend'), dict(type='TensorboardVisBackend')],
)
default_hooks = dict(
    checkpoint=dict(interval=10),
    prepare_method=dict(type='PrepareMethodHook'),
    online_probe=dict(type='OnlineProbeHook', interval=10, bank=20000, queries=2000),
    student_export=dict(type='StudentExportHook'),
    pretrain_figure=dict(type='PretrainFigureHook', images=4),
)
