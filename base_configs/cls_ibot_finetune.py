"""ImageNet fine-tuning with iBOT's ViT-B recipe (arXiv:2111.07832 and its code): the class token.

100 epochs of which 20 warm-up, batch 1024, lr 4e-3 (its script's default; the paper sweeps),
layer decay 0.65, drop path 0.2, weight decay 0.05, the augmentation of MAE's recipe, the class
token after the final norm, head scaled down to 0.001 of timm's initialisation; validation on the
224 px centre of the image at 256, resized bilinearly. iBOT trains in mixed precision; here that is
--amp. Version 2 validates bilinearly (version 1: bicubic) and starts the warm-up at 0.
"""

_base_ = './cls_mae_finetune.py'

protocol = dict(
    _delete_=True,
    name='ibot_finetune',
    version=2,
    published='ibot_finetune',
    deviations=dict(precision='float32 unless --amp is given, which is bfloat16'),
)

model = dict(backbone=dict(drop_path_rate=0.2), pool='cls')
val_dataloader = dict(dataset=dict(views=dict(interpolation='bilinear')))
test_dataloader = val_dataloader
optim_wrapper = dict(optimizer=dict(lr=4e-3))
param_scheduler = [
    dict(type='WarmUpLR', begin=0, end=20, linspace=True, convert_to_iter_based=True),
    dict(type='CosineAnnealingLR', eta_min_ratio=2.5e-4, begin=20, convert_to_iter_based=True),
]
