"""Fine-tuning on Kinetics-400, AMD's ViT-B.

    python tools/train.py video_configs/k400_finetune_base_amd_video_base.py
    python tools/train.py video_configs/k400_finetune_base_amd_video_base.py --sample

Hardware and time: 32 GPUs; not yet measured. Figure to reach: 82.2 top-1
(official README, results/published.csv).
"""

_base_ = '../base_configs/video_k400_finetune_base.py'

model = dict(backbone=dict(init_cfg=dict(type='StudentWeights', student='amd_video_base')))
