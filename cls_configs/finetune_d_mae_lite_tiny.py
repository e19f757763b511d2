"""ImageNet fine-tuning: the ViT-Tiny distilled by D-MAE-Lite.

Command: tools/dist_train.sh cls_configs/finetune_d_mae_lite_tiny.py 8   (on the embedded sample:
    python tools/train.py cls_configs/finetune_d_mae_lite_tiny.py --sample)
Hardware and time: 8 GPUs x 128 images, 300 epochs; not yet measured.
Should reach: not yet measured. Published: 78.4 with 12 heads (MAE-Lite README, this
    recipe).
Choices of ours: see base_configs/cls_finetune.py.
"""

_base_ = '../base_configs/cls_finetune.py'

model = dict(backbone=dict(init_cfg=dict(type='StudentWeights', student='d_mae_lite_tiny')))
