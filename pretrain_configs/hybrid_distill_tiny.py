"""Hybrid Distill, ViT-Tiny from MoCo v3's features and MAE's relations (arXiv:2306.15876).

    tools/pretrain.sh hybrid_distill            # 8 GPUs x 512 images
    tools/pretrain.sh hybrid_distill --sample   # embedded sample, minutes on one CPU core

Hardware and time: 8 GPUs; not yet measured. Figure to reach: not yet measured; none known for
ViT-Tiny. The paper's discriminative teacher is CLIP or DeiT; MoCo v3 stands here so that no other
files are needed than CoMAD's, which is our choice like what comad/methods/hybrid_distill.py lists.
Another one: dict(role='features', family='timm', model=..., checkpoint=...).
"""

_base_ = '../base_configs/pretrain_default.py'

model = dict(
    type='HybridDistill',
    backbone=dict(type='MaskedViT', arch='tiny'),
    teachers=[
        dict(
            role='features',
            family='mocov3',
            checkpoint='teachers/vit-b-300ep.pth.tar',
            arch='base',
        ),
        dict(
            role='relations',
            family='mae',
            checkpoint='teachers/mae_pretrain_vit_base.pth',
            arch='base',
        ),
    ],
    alpha=1.0,
    beta=1.0,
)
# Length, rate, positions and crops are CoMAD's; a step counts 0.28 GFLOP per image (CoMAD 0.26).
# Single runs: 1e-2 and 5e-3 gave the same linear probe (43.6 and 44.1 from patches), 1e-2 and 2e-2
# the same k-NN between two parts of the training split (19.8 and 18.0); nothing else was tried.
sample = dict(
    model=dict(positions='learned', diagnostics_every=10),
    train_cfg=dict(max_epochs=2),
    optim_wrapper=dict(optimizer=dict(lr=1e-2)),
    train_dataloader=dict(dataset=dict(views=dict(scale=(0.5, 1.0)))),
)
