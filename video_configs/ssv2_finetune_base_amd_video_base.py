"""Fine-tuning on Something-Something V2, AMD's ViT-B.

    python tools/train.py video_configs/ssv2_finetune_base_amd_video_base.py
    python tools/train.py video_configs/ssv2_finetune_base_amd_video_base.py --sample

Hardware and time: 16 GPUs; not yet measured. Figure to reach: 73.3 top-1
(official README, results/published.csv).
"""

_base_ = '../base_configs/video_ssv2_finetune_base.py'

model = dict(backbone=dict(init_cfg=dict(type='StudentWeights', student='amd_video_base')))
