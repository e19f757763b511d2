"""Fine-tuning on Something-Something V2, AMD's ViT-S.

    python tools/train.py video_configs/ssv2_finetune_amd_video_small.py
    python tools/train.py video_configs/ssv2_finetune_amd_video_small.py --sample

Hardware and time: 16 GPUs; not yet measured. Figure to reach: 70.2 top-1
(official README, results/published.csv).
"""

_base_ = '../base_configs/video_ssv2_finetune.py'

model = dict(backbone=dict(init_cfg=dict(type='StudentWeights', student='amd_video_small')))
