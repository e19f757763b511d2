"""Fine-tuning on Kinetics-400 with VideoMAE's ViT-S recipe (arXiv:2203.12602 and its code).

150 epochs, batch 512 videos as 32 processes x 16 (the code's dist script; its slurm script has
256), AdamW (0.9, 0.999), weight decay 0.05, lr 1e-3 x 512 / 256 = 2e-3, layer decay 0.75, 5 warm-up
epochs from 0, cosine to 1e-6 per 256, drop path 0.1, 2 augmented samples of each decoded clip,
RandAugment m7-n4-mstd0.5-inc1, mixup 0.8, cutmix 1.0, label smoothing 0.1, erasing 0.25, a head
that starts at a thousandth. Test: 5 clips x 3 crops, mean of softmax, the last epoch's weights.

Ours: float32 unless --amp is given (officially float16), and the accuracy on one frozen frame.
"""

_base_ = './runtime.py'

protocol = dict(
    name='videomae_k400_finetune_small',
    version=1,
    published='videomae_k400_finetune_small',
    deviations=dict(precision='float32 unless --amp is given, which is bfloat16'),
)

model = dict(
    type='VideoClassifier',
    data_preprocessor=dict(type='VideoDataPreprocessor'),
    backbone=dict(type='MaskedVideoViT', arch='video_small', drop_path_rate=0.1),
    num_classes=400,
    mixup=dict(mixup_alpha=0.8, cutmix_alpha=1.0, prob=1.0, switch_prob=0.5, mode='batch'),
    label_smoothing=0.1,
    head_scale=0.001,
    frozen_frame=True,
)

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
        sampling=dict(type='linspace', frames=16, stride=4),
        views=dict(
            type='ClipTrain',
            size=224,
            scale=(0.08, 1.0),
            flip=0.5,
            auto_augment='rand-m7-n4-mstd0.5-inc1',
            re_prob=0.25,
            samples=2,
        ),
    ),
)
val_dataloader = dict(
    batch_size=4,
    num_workers=10,
    persistent_workers=True,
    pin_memory=True,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        type='VideoList',
        root='data/kinetics400',
        split='val',
        classes=400,
        sampling=dict(type='dense_views', frames=16, stride=4, clips=5),
        views=dict(type='ClipTest', size=224, crops=3),
    ),
)
test_dataloader = val_dataloader
val_evaluator = dict(type='Accuracy', topk=(1, 5))
test_evaluator = val_evaluator

optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(type='AdamW', lr=2e-3, betas=(0.9, 0.999), weight_decay=0.05, fused=True),
    constructor='LayerWiseDecayConstructor',
    paramwise_cfg=dict(decay_rate=0.75),
)
auto_scale_lr = dict(base_batch_size=512)
param_scheduler = [
    dict(type='WarmUpLR', begin=0, end=5, linspace=True, convert_to_iter_based=True),
    dict(type='CosineAnnealingLR', eta_min_ratio=1e-3, begin=5, convert_to_iter_based=True),
]
compile = 'auto'  # on GPUs
train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=150, val_interval=150)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')
default_hooks = dict(run_record=dict(type='RunRecordHook'))
