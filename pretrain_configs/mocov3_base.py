"""MoCo v3 on ViT-Base: the official recipe, and the sample's MoCo v3 teacher.

    tools/pretrain.sh mocov3_base           # officially 64 GPUs x 64 images
    tools/pretrain.sh mocov3_base --sample  # embedded sample

Hardware and time: 64 GPUs; not yet measured. With fewer, add --auto-scale-lr. Figure to reach: the
official file reaches 76.7 % ImageNet top-1 with a linear probe (official repository); it is read
as a teacher, so this run is only needed for other data.
"""

_base_ = './mocov3_tiny.py'

model = dict(backbone=dict(arch='base'), head=dict(arch='base'))
train_dataloader = dict(batch_size=64)
# A teacher of the sample is trained long, once, and comes with it. Two encoders pass over both
# views at every step: views of 48 px instead of 64 cost little more than half. Crops of at least
# 0.4 of the image show a blob or a part of one. Images are almost grey: only brightness and
# contrast change.
sample = dict(
    default_hooks=dict(checkpoint=dict(interval=50), online_probe=dict(interval=50)),
    train_cfg=dict(max_epochs=260),
    train_dataloader=dict(
        batch_size=128,
        dataset=dict(
            views=dict(size=48, scale=(0.4, 1.0), jitter=(0.4, 0.4, 0.0, 0.0), gray_prob=0.0)
        ),
    ),
    optim_wrapper=dict(optimizer=dict(lr=1e-3)),
    param_scheduler=[
        dict(type='WarmUpLR', begin=0, end=13, convert_to_iter_based=True),
        dict(type='CosineAnnealingLR', eta_min_ratio=0.0, begin=13, convert_to_iter_based=True),
    ],
)
