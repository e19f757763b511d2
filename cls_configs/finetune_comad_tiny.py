"""ImageNet fine-tuning: the ViT-Tiny distilled by CoMAD.

Command: tools/dist_train.sh cls_configs/finetune_comad_tiny.py 8   (on the embedded sample:
    python tools/train.py cls_configs/finetune_comad_tiny.py --sample)
Hardware and time: 8 GPUs x 128 images, 300 epochs; not yet measured.
Should reach: not yet measured. Published: 75.4 (arXiv:2508.04816, abstract), which does
    not state the recipe.
Choices of ours: see base_configs/cls_finetune.py.
"""

_base_ = '../base_configs/cls_finetune.py'

model = dict(backbone=dict(init_cfg=dict(type='StudentWeights', student='comad_tiny')))
