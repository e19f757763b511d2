"""VideoMAE on ViT-L (arXiv:2203.12602), and the sample's teacher of AMD on video.

    tools/pretrain.sh videomae_video_large    # 32 GPUs x 16 videos
    tools/pretrain.sh videomae_video_large --sample    # embedded sample, minutes on one CPU core

Hardware and time: 32 GPUs; not yet measured. Figure to reach: the official file
is read as a teacher, so this run is only needed for other data.
"""

_base_ = '../base_configs/pretrain_video_k400.py'

model = dict(
    type='VideoMAE',
    backbone=dict(type='MaskedVideoViT', arch='video_large'),
    mask_ratio=0.9,
    decoder=dict(arch='video_large'),
)
