"""ADE20K segmentation: UperNet on the ViT-Tiny distilled by DMT.

Command: tools/dist_train.sh seg_configs/upernet_dmt_tiny.py 8   (on the embedded sample:
    python tools/train.py seg_configs/upernet_dmt_tiny.py --sample)
Hardware and time: 8 GPUs x 2 images of 512 px, 160,000 iterations; not yet measured.
Should reach: not yet measured; none published for ViT-Tiny in a source
    that could be read.
Choices of ours: see base_configs/seg_upernet_vit_tiny.py.
"""

_base_ = '../base_configs/seg_upernet_vit_tiny.py'

model = dict(backbone=dict(init_cfg=dict(type='StudentWeights', student='dmt_tiny')))
