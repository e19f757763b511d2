"""Fine-tuning on Kinetics-400 with VideoMAE's ViT-B recipe.

90 epochs, batch 512, lr 7e-4 x 512 / 256 = 1.4e-3. All else as for ViT-S, see video_k400_finetune.
"""

_base_ = './video_k400_finetune.py'

protocol = dict(name='videomae_k400_finetune_base', published='videomae_k400_finetune_base')
model = dict(backbone=dict(arch='video_base'))
optim_wrapper = dict(optimizer=dict(lr=1.4e-3))
param_scheduler = [
    dict(type='WarmUpLR', begin=0, end=5, linspace=True, convert_to_iter_based=True),
    dict(type='CosineAnnealingLR', eta_min_ratio=1 / 700, begin=5, convert_to_iter_based=True),
]
train_cfg = dict(max_epochs=90, val_interval=90)
