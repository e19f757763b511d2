"""ImageNet fine-tuning: the ViT-Tiny distilled by DMT, one mean target.

Command: tools/dist_train.sh cls_configs/finetune_dmt_mean_tiny.py 8   (on the embedded sample:
    python tools/train.py cls_configs/finetune_dmt_mean_tiny.py --sample)
Hardware and time: 8 GPUs x 128 images, 300 epochs; not yet measured.
Should reach: not yet measured; none published.
Choices of ours: see base_configs/cls_finetune.py.
"""

_base_ = '../base_configs/cls_finetune.py'

model = dict(backbone=dict(init_cfg=dict(type='StudentWeights', student='dmt_mean_tiny')))
