"""iBOT on ViT-Tiny, a baseline without teachers (arXiv:2111.07832 and its official code).

    tools/pretrain.sh ibot                  # 8 GPUs x 128 images
    tools/pretrain.sh ibot --sample         # embedded sample

Hardware and time: 8 GPUs; not yet measured. Figure to reach: not yet measured. The recipe is the
official one of ViT-Small (its README's command): batch 1024, lr 5e-4 per 256 with 10 warm-up epochs
and a cosine to 1e-6, AdamW (0.9, 0.999), weight decay rising from 0.04 to 0.4 along a cosine on all
but norms and biases, every tensor's gradient clipped at norm 3, drop path 0.1, two global crops
(0.25-1) and ten local ones (0.05-0.25), position tables resized to them by factor, one head of 8192
prototypes for cls and patches whose lengths are trained, block masks of 0.3 +- 0.2 on half of the
images, teacher temperature 0.04 to 0.07 over 30 epochs, teacher momentum 0.996 rising to 1, last
layer still in the first epoch. Ours: 300 epochs, as every student here (official: 800).
"""

_base_ = '../base_configs/pretrain_default.py'

model = dict(
    type='IBOT',
    backbone=dict(
        type='MaskedViT',
        arch='tiny',
        use_mask_token=True,
        drop_path_rate=0.1,
        pos_interpolation='bicubic_offset',
    ),
    head=dict(arch='tiny'),
    teacher_temp=(0.04, 0.07, 0.1),
    teacher_momentum=0.996,
    freeze_prototypes=1 / 300,
    mask_ratio=(0.3, 0.2),
    mask_shape='block',
)
train_dataloader = dict(
    batch_size=128,
    dataset=dict(
        views=dict(
            type='MultiCrop',
            scale=(0.25, 1.0),
            local_scale=(0.05, 0.25),
            num_local=10,
        ),
    ),
)
optim_wrapper = dict(
    optimizer=dict(lr=2e-3, betas=(0.9, 0.999), weight_decay=0.04),
    clip_grad=dict(max_norm=3.0, per_tensor=True),
    # The official code exempts vectors and biases from weight decay, nothing else.
    paramwise_cfg=dict(pos_embed_decay_mult=1.0, cls_token_decay_mult=1.0),
)
auto_scale_lr = dict(base_batch_size=1024)
param_scheduler = [
    dict(type='WarmUpLR', begin=0, end=10, linspace=True, convert_to_iter_based=True),
    dict(type='CosineAnnealingLR', eta_min_ratio=5e-4, begin=10, convert_to_iter_based=True),
    # A ratio, so that parameters without weight decay keep none.
    dict(
        type='CosineAnnealingParamScheduler',
        param_name='weight_decay',
        eta_min_ratio=10.0,
        convert_to_iter_based=True,
    ),
]
# The sample's schedule is constant in weight decay: in a few hundred steps none of it shows. Its
# teacher has 0.04 in the first of three epochs.
# Student and teacher pass over both global views at every step, which is most of its time: views
# of 40 px instead of 64 and fewer local crops cost less than half.
sample = dict(
    train_cfg=dict(max_epochs=3),
    train_dataloader=dict(dataset=dict(views=dict(size=40, num_local=2))),
    model=dict(teacher_temp=(0.04, 0.07, 1 / 3)),
)
