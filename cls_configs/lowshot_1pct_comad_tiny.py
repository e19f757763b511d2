"""ImageNet with 1 % of the labels: the frozen ViT-Tiny distilled by CoMAD.

Command: tools/dist_train.sh cls_configs/lowshot_1pct_comad_tiny.py 1   (on the embedded sample:
    python tools/train.py cls_configs/lowshot_1pct_comad_tiny.py --sample)
Hardware and time: 1 GPU or more, features of 62,811 images, then a CPU; not yet measured.
Should reach: not yet measured; none published for CoMAD.
Other students: --student NAME. Choices of ours: see base_configs/cls_lowshot_1pct.py.
"""

_base_ = '../base_configs/cls_lowshot_1pct.py'

model = dict(backbone=dict(init_cfg=dict(type='StudentWeights', student='comad_tiny')))
