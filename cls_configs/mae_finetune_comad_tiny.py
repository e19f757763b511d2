"""ImageNet fine-tuning: the ViT-Tiny distilled by CoMAD, MAE's recipe.

Command: tools/dist_train.sh cls_configs/mae_finetune_comad_tiny.py 8   (on the embedded sample:
    python tools/train.py cls_configs/mae_finetune_comad_tiny.py --sample)
Hardware and time: 8 GPUs x 128 images, 100 epochs; not yet measured.
Should reach: not yet measured. Published: 75.4 top-1 (arXiv:2508.04816, abstract),
    whose recipe the abstract does not name.
Other students: --student NAME. Choices of ours: see base_configs/cls_mae_finetune.py.
"""

_base_ = '../base_configs/cls_mae_finetune.py'

model = dict(backbone=dict(init_cfg=dict(type='StudentWeights', student='comad_tiny')))
