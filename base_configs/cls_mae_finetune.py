"""ImageNet fine-tuning with MAE's ViT-B recipe (arXiv:2111.06377, table 9 and its code).

100 epochs, batch 1024, AdamW (0.9, 0.999), weight decay 0.05, lr 5e-4 x 1024 / 256 = 2e-3, layer
decay 0.65, 5 warm-up epochs, cosine to 1e-6 (scaled by the layer), drop path 0.1, RandAugment
m9-mstd0.5-inc1, mixup 0.8, cutmix 1.0, label smoothing 0.1, random erasing 0.25, mean of the
patch tokens with a norm of its own, no weight averaging. MAE trains in mixed precision; here that
is --amp. Version 2 starts the warm-up at 0.
"""

_base_ = './cls_finetune.py'

protocol = dict(
    _delete_=True,
    name='mae_finetune',
    version=2,
    published='mae_finetune',
    deviations=dict(precision='float32 unless --amp is given, which is bfloat16'),
)

model = dict(
    backbone=dict(drop_path_rate=0.1),
    mixup=dict(mixup_alpha=0.8, cutmix_alpha=1.0),
    label_smoothing=0.1,
    head_std=2e-5,
)
train_dataloader = dict(
    dataset=dict(views=dict(auto_augment='rand-m9-mstd0.5-inc1', color_jitter=None, re_prob=0.25))
)
optim_wrapper = dict(optimizer=dict(lr=2e-3), paramwise_cfg=dict(decay_rate=0.65))
param_scheduler = [
    dict(type='WarmUpLR', begin=0, end=5, convert_to_iter_based=True),
    dict(type='CosineAnnealingLR', eta_min_ratio=5e-4, begin=5, convert_to_iter_based=True),
]
train_cfg = dict(max_epochs=100)
