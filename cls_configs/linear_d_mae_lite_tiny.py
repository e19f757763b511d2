"""ImageNet linear probe: the frozen ViT-Tiny distilled by D-MAE-Lite.

Command: tools/dist_train.sh cls_configs/linear_d_mae_lite_tiny.py 8   (on the embedded sample:
    python tools/train.py cls_configs/linear_d_mae_lite_tiny.py --sample)
Hardware and time: 8 GPUs x 2048 images, 90 epochs, forward passes only; not yet measured.
Should reach: not yet measured; none published for this
    protocol.
Choices of ours: see base_configs/cls_linear.py.
"""

_base_ = '../base_configs/cls_linear.py'

model = dict(backbone=dict(init_cfg=dict(type='StudentWeights', student='d_mae_lite_tiny')))
