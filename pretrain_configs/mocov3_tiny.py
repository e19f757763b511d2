"""MoCo v3 on ViT-Tiny, a baseline without teachers (arXiv:2104.02057 and its official code).

    tools/pretrain.sh mocov3                # 8 GPUs x 512 images
    tools/pretrain.sh mocov3 --sample       # embedded sample

Hardware and time: 8 GPUs; not yet measured. Figure to reach: not yet measured. The recipe is the
official one of ViT-Base: 300 epochs, 40 warm-up epochs, batch 4096, AdamW (0.9, 0.999), lr 1.5e-4
per 256, weight decay 0.1 on everything, crops of 0.08-1, momentum 0.99 rising to 1 along a cosine,
temperature 0.2, frozen random patch embedding, heads with BatchNorm over all GPUs.
"""

_base_ = '../base_configs/pretrain_default.py'

model = dict(
    type='MoCoV3',
    backbone=dict(type='MaskedViT', arch='tiny'),
    temperature=0.2,
    momentum=0.99,
    head=dict(arch='tiny'),
)
train_dataloader = dict(
    dataset=dict(views=dict(type='TwoViews', scale=(0.08, 1.0), interpolation='bilinear'))
)
optim_wrapper = dict(
    optimizer=dict(betas=(0.9, 0.999), weight_decay=0.1),
    # MoCo v3's code hands all parameters to AdamW as one group.
    paramwise_cfg=dict(
        norm_decay_mult=1.0,
        bias_decay_mult=1.0,
        pos_embed_decay_mult=1.0,
        cls_token_decay_mult=1.0,
    ),
)
param_scheduler = [
    dict(type='WarmUpLR', begin=0, end=40, convert_to_iter_based=True),
    dict(type='CosineAnnealingLR', eta_min_ratio=0.0, begin=40, convert_to_iter_based=True),
]
sync_bn = 'torch'
# Two encoders pass over both views at every step: that, not the augmentation, is what the time goes
# into. Views of 40 px instead of 64 cost less than half.
sample = dict(
    train_cfg=dict(max_epochs=4),
    train_dataloader=dict(dataset=dict(views=dict(size=40))),
)
