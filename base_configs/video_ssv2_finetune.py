"""Fine-tuning on Something-Something V2 with VideoMAE's ViT-S recipe (arXiv:2203.12602, its code).

40 epochs, batch 256 videos as 16 processes x 16, lr 1e-3, one random frame of each of 16 segments,
no mirroring, since left and right are labels; test on 2 clips x 3 crops. All else as on
Kinetics-400, see video_k400_finetune.
"""

_base_ = './video_k400_finetune.py'

protocol = dict(name='videomae_ssv2_finetune_small', published='videomae_ssv2_finetune_small')

model = dict(num_classes=174)
train_dataloader = dict(
    dataset=dict(
        root='data/ssv2',
        classes=174,
        sampling=dict(_delete_=True, type='segments', frames=16),
        views=dict(flip=0.0),
    )
)
val_dataloader = dict(
    dataset=dict(
        root='data/ssv2',
        classes=174,
        sampling=dict(_delete_=True, type='segment_views', frames=16, clips=2),
    )
)
test_dataloader = val_dataloader
optim_wrapper = dict(optimizer=dict(lr=1e-3))
auto_scale_lr = dict(base_batch_size=256)
train_cfg = dict(max_epochs=40, val_interval=40)
