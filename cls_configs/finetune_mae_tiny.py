"""ImageNet fine-tuning: the ViT-Tiny pretrained by MAE.

Command: tools/dist_train.sh cls_configs/finetune_mae_tiny.py 8   (on the embedded sample:
    python tools/train.py cls_configs/finetune_mae_tiny.py --sample)
Hardware and time: 8 GPUs x 128 images, 300 epochs; not yet measured.
Should reach: not yet measured. Published: 78.0 with 12 heads (MAE-Lite README, this
    recipe), 71.6 (MAE-T in the TinyMIM README, another recipe).
Choices of ours: see base_configs/cls_finetune.py.
"""

_base_ = '../base_configs/cls_finetune.py'

model = dict(backbone=dict(init_cfg=dict(type='StudentWeights', student='mae_tiny')))
