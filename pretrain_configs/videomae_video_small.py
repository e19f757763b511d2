"""VideoMAE on ViT-S (arXiv:2203.12602).

    tools/pretrain.sh videomae_video    # 32 GPUs x 16 videos
    tools/pretrain.sh videomae_video --sample    # embedded sample, minutes on one CPU core

Hardware and time: 32 GPUs; not yet measured. Figure to reach: 79.0 top-1 on
Kinetics-400 after fine-tuning, with twice the epochs (1600 in the papers' count; MODEL_ZOO).
"""

_base_ = '../base_configs/pretrain_video_k400.py'

model = dict(
    type='VideoMAE',
    backbone=dict(type='MaskedVideoViT', arch='video_small'),
    mask_ratio=0.9,
    decoder=dict(arch='video_small'),
)
