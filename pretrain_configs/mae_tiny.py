"""MAE on ViT-Tiny, the baseline without teachers (arXiv:2111.06377).

    tools/pretrain.sh mae                   # 8 GPUs x 512 images
    tools/pretrain.sh mae --sample          # embedded sample, as many seconds as CoMAD

Hardware and time: 8 GPUs; not yet measured. Figure to reach: not yet measured. MAE students of
other works are in results/published.csv. The recipe is the official one: batch 4096, lr 1.5e-4 per
256, AdamW (0.9, 0.95), weight decay 0.05 on all but norms and biases, 40 warm-up epochs, crops of
0.2-1. Ours: 300 epochs, as every student here (official: 800 or 1600), and a decoder of one
192-wide block (official: 8 blocks 512 wide, for ViT-Large and ViT-Base).
"""

_base_ = '../base_configs/pretrain_default.py'

protocol = dict(
    name='mae_pretraining',
    version=1,
    published='mae_pretraining',
    deviations=dict(length='300 epochs, as every student here'),
)

model = dict(
    type='MAE',
    backbone=dict(type='MaskedViT', arch='tiny'),
    mask_ratio=0.75,
    norm_pix=True,
    decoder=dict(arch='tiny'),
)
# MAE's code exempts vectors and biases from weight decay; the cls token is neither.
optim_wrapper = dict(paramwise_cfg=dict(cls_token_decay_mult=1.0))
param_scheduler = [
    dict(type='WarmUpLR', begin=0, end=40, convert_to_iter_based=True),
    dict(type='CosineAnnealingLR', eta_min_ratio=0.0, begin=40, convert_to_iter_based=True),
]
# An epoch takes less than a third of the time of one of CoMAD; never less time in all than CoMAD
# has (side by side, a core each: 74 s here, 68 s there). Too short to learn a pattern alone: its
# teacher of the sample needed ten times as many steps. Crops as there.
sample = dict(
    train_cfg=dict(max_epochs=7),
    train_dataloader=dict(dataset=dict(views=dict(scale=(0.5, 1.0)))),
)
