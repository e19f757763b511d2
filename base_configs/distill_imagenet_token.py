"""Distillation into a ViT, Swin or MLP on ImageNet: AdamW, 300 epochs (OFA-KD).

8 processes x 128 images, no stochastic depth, otherwise as on CIFAR-100, with a floor of 1e-6.
The average of the weights is evaluated and handed on.
"""

_base_ = './distill_imagenet_cnn.py'

protocol = dict(
    name='ofa_kd_imagenet_token',
    version=1,
    published='ofa_kd_imagenet_token',
    deviations=dict(selection='nothing is chosen on the validation images'),
)
model = dict(
    backbone=dict(drop_path_rate=0.0),
    ema_decay=0.99996,
    mixup=dict(mixup_alpha=0.8, cutmix_alpha=1.0, prob=1.0, switch_prob=0.5, mode='batch'),
)
train_dataloader = dict(
    batch_size=128,
    dataset=dict(views=dict(auto_augment='rand-m9-mstd0.5-inc1', re_prob=0.25)),
)
val_dataloader = dict(dataset=dict(views=dict(resize=248)))
test_dataloader = val_dataloader
optim_wrapper = dict(
    optimizer=dict(_delete_=True, type='AdamW', lr=5e-4, betas=(0.9, 0.999), weight_decay=0.05),
    clip_grad=dict(max_norm=5.0),
)
auto_scale_lr = dict(base_batch_size=1024)
param_scheduler = [dict(type='TimmSchedule', warm_up=20, warm_up_rate=5e-7, floor=1e-6)]
train_cfg = dict(max_epochs=300)
# An average over the last epoch, for a training of a thousandth of the steps.
sample = dict(model=dict(ema_decay=0.99))
