"""Distillation into a ViT, Swin or MLP on CIFAR-100: AdamW, 300 epochs (OFA-KD).

Rate 5e-4, cosine to 1e-5 over all epochs (issue 19 shows 1e-6, with weight averaging and mixed
precision, for DeiT-T and Swin-P), warm-up of 20 from 5e-7, weight decay 0.05, RandAugment, mixup
0.8, cutmix 1, erasing 0.25, gradients cut at 5. Tests: 224 px of 248, of 256 for ResMLP.
"""

_base_ = './distill_cifar100.py'

protocol = dict(
    name='ofa_kd_cifar100_token',
    version=1,
    published='ofa_kd_cifar100_token',
    deviations=dict(selection='nothing is chosen on the test set'),
)
model = dict(
    mixup=dict(mixup_alpha=0.8, cutmix_alpha=1.0, prob=1.0, switch_prob=0.5, mode='batch'),
)
train_dataloader = dict(
    dataset=dict(views=dict(auto_augment='rand-m9-mstd0.5-inc1', re_prob=0.25)),
)
val_dataloader = dict(dataset=dict(views=dict(resize=248)))
test_dataloader = val_dataloader
optim_wrapper = dict(
    optimizer=dict(type='AdamW', lr=5e-4, betas=(0.9, 0.999), weight_decay=0.05),
    clip_grad=dict(max_norm=5.0),
)
param_scheduler = [dict(type='TimmSchedule', warm_up=20, warm_up_rate=5e-7, floor=1e-5)]
