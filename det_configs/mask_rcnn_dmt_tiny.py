"""COCO detection: ViTDet Mask R-CNN on the ViT-Tiny distilled by DMT.

Command: tools/dist_train.sh det_configs/mask_rcnn_dmt_tiny.py 8   (on the embedded sample:
    python tools/train.py det_configs/mask_rcnn_dmt_tiny.py --sample)
Hardware and time: 8 GPUs x 8 images of 1024 px, 184,375 iterations; not yet measured.
Should reach: not yet measured; none published for ViT-Tiny in a source
    that could be read.
Choices of ours: see base_configs/det_mask_rcnn_vit_tiny.py.
"""

_base_ = '../base_configs/det_mask_rcnn_vit_tiny.py'

model = dict(backbone=dict(init_cfg=dict(type='StudentWeights', student='dmt_tiny')))
