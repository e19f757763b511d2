"""ImageNet fine-tuning with MAE-Lite's "improved" ViT-Tiny recipe (arXiv:2205.14443 and its code).

300 epochs, batch 1024, AdamW (0.9, 0.999), weight decay 0.05, lr 1e-3 x 1024 / 256 = 4e-3, layer
decay 0.85, 5 warm-up epochs, cosine to 1e-6, drop path 0, RandAugment magnitude 10, mixup 0.2, no
cutmix, no erasing, no label smoothing, mean of the patch tokens with a norm of its own, a linear
head that starts at std 0.02; validation on the 224 px centre of the image at 256 (bicubic).

Ours: ViT-Tiny has 3 heads as in DeiT (MAE-Lite: 12), so its published figures belong to another
network. The floor of the cosine is a ratio and thus scaled by the layer decay, as in MAE's code.
MAE-Lite's colour jitter of 0.3 is stated, but timm's transform ignores it next to RandAugment.
It trains in mixed precision; here that is --amp. Version 2 starts the head as MAE-Lite's code does
(version 1: MAE's 2e-5) and the warm-up at 0.
"""

_base_ = './classification.py'

protocol = dict(
    name='mae_lite_finetune',
    version=2,
    published='mae_lite_finetune',
    deviations=dict(precision='float32 unless --amp is given, which is bfloat16'),
)

model = dict(
    type='ImageClassifier',
    data_preprocessor=dict(type='ImageDataPreprocessor'),
    backbone=dict(type='MaskedViT', arch='tiny', drop_path_rate=0.0),
    num_classes=1000,
    pool='mean',
    mixup=dict(mixup_alpha=0.2, cutmix_alpha=0.0, prob=1.0, switch_prob=0.5, mode='batch'),
    label_smoothing=0.0,
    head_std=0.02,
)

train_dataloader = dict(
    batch_size=128,
    dataset=dict(
        type='ImageNetFolder',
        root='data/imagenet',
        split='train',
        views=dict(
            type='TimmTrain',
            size=224,
            scale=(0.08, 1.0),
            auto_augment='rand-m10-mstd0.5-inc1',
            color_jitter=0.3,
            re_prob=0.0,
        ),
    ),
)
val_dataloader = dict(
    dataset=dict(
        type='ImageNetFolder',
        root='data/imagenet',
        split='val',
        views=dict(type='CenterCrop', size=224, resize=256, interpolation='bicubic'),
    ),
)
test_dataloader = val_dataloader

optim_wrapper = dict(
    optimizer=dict(type='AdamW', lr=4e-3, betas=(0.9, 0.999), weight_decay=0.05, fused=True),
    paramwise_cfg=dict(decay_rate=0.85),
)
auto_scale_lr = dict(base_batch_size=1024)
param_scheduler = [
    dict(type='WarmUpLR', begin=0, end=5, convert_to_iter_based=True),
    dict(type='CosineAnnealingLR', eta_min_ratio=2.5e-4, begin=5, convert_to_iter_based=True),
]
compile = 'auto'  # on GPUs
train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=300, val_interval=10)
default_hooks = dict(run_record=dict(type='RunRecordHook'))
