"""ImageNet fine-tuning: the ViT-Tiny distilled by AMD.

Command: tools/dist_train.sh cls_configs/finetune_amd_tiny.py 8   (on the embedded sample:
    python tools/train.py cls_configs/finetune_amd_tiny.py --sample)
Hardware and time: 8 GPUs x 128 images, 300 epochs; not yet measured.
Should reach: not yet measured. Published for larger networks: 82.1 (ViT-S), 84.6 (ViT-B;
    AMD README).
Choices of ours: see base_configs/cls_finetune.py.
"""

_base_ = '../base_configs/cls_finetune.py'

model = dict(backbone=dict(init_cfg=dict(type='StudentWeights', student='amd_tiny')))
