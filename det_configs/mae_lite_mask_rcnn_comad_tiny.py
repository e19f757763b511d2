"""COCO detection: MAE-Lite's Mask R-CNN at 640 px on the ViT-Tiny distilled by CoMAD.

Command: tools/dist_train.sh det_configs/mae_lite_mask_rcnn_comad_tiny.py 8
    (on the embedded sample:
    python tools/train.py det_configs/mae_lite_mask_rcnn_comad_tiny.py --sample)
Hardware and time: 8 GPUs x 8 images of 640 px, 184,375 iterations; not yet measured.
Should reach: not yet measured. Published: 42.5 box AP, 37.5 mask AP
    (D2-MAE in MAE-Lite), with 12 heads and relative positions.
Choices of ours: see base_configs/det_mae_lite_mask_rcnn.py.
Another student: --student mae_tiny.
"""

_base_ = '../base_configs/det_mae_lite_mask_rcnn.py'

model = dict(backbone=dict(init_cfg=dict(type='StudentWeights', student='comad_tiny')))
