"""Pretraining on Kinetics-400 with VideoMAE's and AMD's recipe (arXiv:2203.12602, 2311.03149).

16 frames, stride 4, 224 px; batch 512 videos as 32 processes x 16, 4 crops of each decoded clip;
AdamW (0.9, 0.95), lr 1.2e-3 x 512 / 256 = 2.4e-3 (videos are counted, not crops), weight decay 0.05
without vectors and mask tokens, 10 warm-up epochs from 0, cosine to 2e-5, gradients cut at norm
0.02. 200 epochs of 4 crops are what the papers count as 800. Officially in float16; bfloat16 is
ours, and frozen teachers compute in it throughout. No probe and no picture run beside it.

Another number of GPUs: --auto-scale-lr keeps lr / batch.
"""

_base_ = './runtime.py'

train_dataloader = dict(
    batch_size=16,
    num_workers=10,
    persistent_workers=True,
    pin_memory=True,
    drop_last=True,
    collate_fn=dict(type='default_collate'),
    sampler=dict(type='DefaultSampler', shuffle=True),
    dataset=dict(
        type='VideoList',
        root='data/kinetics400',
        split='train',
        classes=400,
        sampling=dict(type='strided', frames=16, stride=4),
        views=dict(type='ClipPretrain', size=224, samples=4),
    ),
)
model = dict(data_preprocessor=dict(type='VideoDataPreprocessor'))

optim_wrapper = dict(
    type='AutocastOptimWrapper',
    dtype='bfloat16',
    optimizer=dict(type='AdamW', lr=2.4e-3, betas=(0.9, 0.95), weight_decay=0.05, fused=True),
    clip_grad=dict(max_norm=0.02),
    constructor='LayerWiseDecayConstructor',
    paramwise_cfg=dict(mask_token_decay_mult=0.0),
)
auto_scale_lr = dict(base_batch_size=512)
param_scheduler = [
    dict(type='WarmUpLR', begin=0, end=10, linspace=True, convert_to_iter_based=True),
    dict(type='CosineAnnealingLR', eta_min_ratio=2 / 240, begin=10, convert_to_iter_based=True),
]
train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=200)
compile = 'auto'  # on GPUs

visualizer = dict(
    vis_backends=[dict(type='LocalVisBackend'), dict(type='TensorboardVisBackend')],
)
default_hooks = dict(
    checkpoint=dict(interval=10),
    prepare_method=dict(type='PrepareMethodHook'),
    student_export=dict(type='StudentExportHook'),
)
