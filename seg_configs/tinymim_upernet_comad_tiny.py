"""ADE20K segmentation: UperNet with TinyMIM*'s numbers on the ViT-Tiny distilled by CoMAD.

Command: tools/dist_train.sh seg_configs/tinymim_upernet_comad_tiny.py 8
    (on the embedded sample:
    python tools/train.py seg_configs/tinymim_upernet_comad_tiny.py --sample)
Hardware and time: 8 GPUs x 2 images of 512 px, 160,000 iterations; not yet measured.
Should reach: not yet measured. Published: 45.0 mIoU
    (TinyMIM*-T in the TinyMIM README), with 12 heads and fine-tuned weights.
Choices of ours: see base_configs/seg_tinymim_upernet.py.
Another student: --student mae_tiny.
"""

_base_ = '../base_configs/seg_tinymim_upernet.py'

model = dict(backbone=dict(init_cfg=dict(type='StudentWeights', student='comad_tiny')))
