"""Fine-tuning on Something-Something V2 with VideoMAE's ViT-B recipe: 30 epochs, lr 5e-4.

All else as for ViT-S, see video_ssv2_finetune.
"""

_base_ = './video_ssv2_finetune.py'

protocol = dict(name='videomae_ssv2_finetune_base', published='videomae_ssv2_finetune_base')
model = dict(backbone=dict(arch='video_base'))
optim_wrapper = dict(optimizer=dict(lr=5e-4))
param_scheduler = [
    dict(type='WarmUpLR', begin=0, end=5, linspace=True, convert_to_iter_based=True),
    dict(type='CosineAnnealingLR', eta_min_ratio=2e-3, begin=5, convert_to_iter_based=True),
]
train_cfg = dict(max_epochs=30, val_interval=30)
