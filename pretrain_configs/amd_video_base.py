"""AMD on video, ViT-B from VideoMAE's ViT-L (arXiv:2311.03149).

    tools/pretrain.sh amd_video_base    # 32 GPUs x 16 videos
    tools/pretrain.sh amd_video_base --sample    # embedded sample, minutes on one CPU core

Hardware and time: 32 GPUs; not yet measured. Figure to reach: 82.2 top-1 on
Kinetics-400 after fine-tuning (official README). On Something-Something V2 (73.3): its own teacher
and recipe, see amd_ssv2_video_small.
"""

_base_ = '../base_configs/pretrain_video_k400.py'

model = dict(
    type='AMDVideo',
    backbone=dict(type='MaskedVideoViT', arch='video_base'),
    teachers=[
        dict(
            family='videomae',
            checkpoint='teachers/videomae_pretrain_vit_large.pth',
            arch='video_large',
            mask_ratio=0.75,
        ),
    ],
    mask_ratio=0.9,
    decoder=dict(arch='video_base'),
)
