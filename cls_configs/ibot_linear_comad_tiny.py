"""ImageNet linear evaluation: the frozen ViT-Tiny distilled by CoMAD, iBOT's sweep.

Command: tools/dist_train.sh cls_configs/ibot_linear_comad_tiny.py 8   (on the embedded sample:
    python tools/train.py cls_configs/ibot_linear_comad_tiny.py --sample)
Hardware and time: 8 GPUs x 128 images, 100 epochs, forward passes only; not yet measured.
Should reach: not yet measured; the paper's abstract gives no linear figure.
Other students: --student NAME. Choices of ours: see base_configs/cls_ibot_linear.py.
"""

_base_ = '../base_configs/cls_ibot_linear.py'

model = dict(backbone=dict(init_cfg=dict(type='StudentWeights', student='comad_tiny')))
