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
# Crops that keep the digit readable.
sample = dict(
    default_hooks=dict(online_probe=dict(interval=4)),
    train_cfg=dict(max_epochs=12),
    train_dataloader=dict(dataset=dict(views=dict(scale=(0.5, 1.0)))),
)
