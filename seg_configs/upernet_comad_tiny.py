"""ADE20K segmentation: UperNet on the ViT-Tiny distilled by CoMAD.

Command: tools/dist_train.sh seg_configs/upernet_comad_tiny.py 8   (on the embedded sample:
    python tools/train.py seg_configs/upernet_comad_tiny.py --sample)
Hardware and time: 8 GPUs x 2 images of 512 px, 160,000 iterations; not yet measured.
Should reach: not yet measured. Published: 47.3 mIoU (arXiv:2508.04816, abstract),
    whose backbone and head the abstract does not name, so it is no target for this recipe.
Choices of ours: see base_configs/seg_upernet_vit_tiny.py.
"""

_base_ = '../base_configs/seg_upernet_vit_tiny.py'

model = dict(backbone=dict(init_cfg=dict(type='StudentWeights', student='comad_tiny')))
