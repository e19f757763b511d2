"""MAE on ViT-Base: the official recipe, and the sample's MAE teacher (arXiv:2111.06377).

    tools/pretrain.sh mae_base              # 8 GPUs x 512 images
    tools/pretrain.sh mae_base --sample     # embedded sample

Hardware and time: 8 GPUs; not yet measured. Figure to reach: the official file, made by 1600
epochs, fine-tunes to 83.6 % ImageNet top-1 (official README); it is read as a teacher, so this run
is only needed for other data. 1600 epochs, 40 warm-up epochs, decoder of 8 blocks 512 wide.
"""

_base_ = './mae_tiny.py'

protocol = dict(_delete_=True, name='mae_pretraining', version=1, published='mae_pretraining')

model = dict(backbone=dict(arch='base'), decoder=dict(arch='base'))
train_cfg = dict(max_epochs=1600)
# A teacher of the sample is trained long, once, and comes with it. Crops keep a pattern readable.
sample = dict(
    default_hooks=dict(checkpoint=dict(interval=50), online_probe=dict(interval=50)),
    train_cfg=dict(max_epochs=350),
    train_dataloader=dict(batch_size=256, dataset=dict(views=dict(scale=(0.5, 1.0)))),
    optim_wrapper=dict(optimizer=dict(lr=2e-3)),
    param_scheduler=[
        dict(type='WarmUpLR', begin=0, end=18, convert_to_iter_based=True),
        dict(type='CosineAnnealingLR', eta_min_ratio=0.0, begin=18, convert_to_iter_based=True),
    ],
)
