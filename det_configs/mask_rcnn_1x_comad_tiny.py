"""COCO detection: Mask R-CNN at 640 px for 12 epochs on the ViT-Tiny distilled by CoMAD.

Command: tools/dist_train.sh det_configs/mask_rcnn_1x_comad_tiny.py 8
    (on the embedded sample:
    python tools/train.py det_configs/mask_rcnn_1x_comad_tiny.py --sample)
Hardware and time: 8 GPUs x 2 images of 640 px, 87,950 iterations; not yet measured.
Should reach: not yet measured. Published: none.
Choices of ours: see base_configs/det_mask_rcnn_1x.py.
Another student: --student mae_tiny.
"""

_base_ = '../base_configs/det_mask_rcnn_1x.py'

model = dict(backbone=dict(init_cfg=dict(type='StudentWeights', student='comad_tiny')))
