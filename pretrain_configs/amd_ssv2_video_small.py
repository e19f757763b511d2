"""AMD on Something-Something V2, ViT-S from VideoMAE's ViT-L of that set (arXiv:2311.03149).

    tools/pretrain.sh amd_ssv2_video_small    # 32 GPUs x 16 videos
    tools/pretrain.sh amd_ssv2_video_small --sample    # embedded sample, minutes on one CPU core

Hardware and time: 32 GPUs; not yet measured. Figure to reach: 70.2 top-1 on
Something-Something V2 after fine-tuning (official README). All else as on Kinetics-400, see
amd_video_small. On the sample the teacher is that of the other set, whose clips are the same.
"""

_base_ = '../base_configs/pretrain_video_ssv2.py'

model = dict(
    type='AMDVideo',
    backbone=dict(type='MaskedVideoViT', arch='video_small'),
    teachers=[
        dict(
            family='videomae',
            checkpoint='teachers/ssv2/videomae_pretrain_vit_large.pth',
            arch='video_large',
            mask_ratio=0.75,
        ),
    ],
    mask_ratio=0.9,
    decoder=dict(arch='video_small'),
)
sample = dict(train_dataloader=dict(dataset=dict(root='data/sample_video/ssv2', classes=8)))
