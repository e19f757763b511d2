"""ImageNet fine-tuning: the ViT-Tiny with random weights.

Command: tools/dist_train.sh cls_configs/finetune_scratch_tiny.py 8   (on the embedded sample:
    python tools/train.py cls_configs/finetune_scratch_tiny.py --sample)
Hardware and time: 8 GPUs x 128 images, 300 epochs; not yet measured.
Should reach: not yet measured. Published: 75.8 with 12 heads (MAE-Lite README, this
    recipe, supervised from scratch).
Choices of ours: see base_configs/cls_finetune.py.
"""

_base_ = '../base_configs/cls_finetune.py'

model = dict(backbone=dict(init_cfg=dict(type='StudentWeights', student='scratch_tiny')))
