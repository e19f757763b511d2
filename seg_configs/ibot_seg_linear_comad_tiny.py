"""ADE20K segmentation: linear head on the frozen ViT-Tiny distilled by CoMAD, iBOT's recipe.

Command: tools/dist_train.sh seg_configs/ibot_seg_linear_comad_tiny.py 8
    (on the embedded sample:
    python tools/train.py seg_configs/ibot_seg_linear_comad_tiny.py --sample)
Hardware and time: 8 GPUs x 2 images of 512 px, 160,000 iterations; not yet measured.
Should reach: not yet measured. Published: none for a ViT-Tiny.
Choices of ours: see base_configs/seg_ibot_linear.py.
Another student: --student mae_tiny.
"""

_base_ = '../base_configs/seg_ibot_linear.py'

model = dict(backbone=dict(init_cfg=dict(type='StudentWeights', student='comad_tiny')))
