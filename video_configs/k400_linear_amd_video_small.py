"""Linear probe on Kinetics-400, AMD's ViT-S.

    python tools/train.py video_configs/k400_linear_amd_video_small.py
    python tools/train.py video_configs/k400_linear_amd_video_small.py --sample

Hardware and time: 4 GPUs x 256 videos, forward passes only; not yet measured. Should reach: no
figure is published for this recipe, which is ours.
"""

_base_ = '../base_configs/video_k400_linear.py'

model = dict(backbone=dict(init_cfg=dict(type='StudentWeights', student='amd_video_small')))
