"""ImageNet with 10 % of the labels: the frozen ViT-Tiny distilled by CoMAD.

Command: tools/dist_train.sh cls_configs/lowshot_10pct_comad_tiny.py 1   (on the embedded sample:
    python tools/train.py cls_configs/lowshot_10pct_comad_tiny.py --sample)
Hardware and time: 1 GPU or more, features of 178,000 images, then a CPU; not yet measured.
Should reach: not yet measured; none published for CoMAD.
Other students: --student NAME. Choices of ours: see base_configs/cls_lowshot_10pct.py.
"""

_base_ = '../base_configs/cls_lowshot_10pct.py'

model = dict(backbone=dict(init_cfg=dict(type='StudentWeights', student='comad_tiny')))
