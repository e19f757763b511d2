"""ImageNet k-NN: the frozen ViT-Tiny distilled by DMT, one mean target.

Command: tools/dist_train.sh cls_configs/knn_dmt_mean_tiny.py 1   (on the embedded sample:
    python tools/train.py cls_configs/knn_dmt_mean_tiny.py --sample)
Hardware and time: 1 GPU or more, one pass over both splits, features of about 2 GB per
    process; not yet measured.
Should reach: not yet measured; none published for ViT-Tiny.
Choices of ours: see base_configs/cls_knn.py.
"""

_base_ = '../base_configs/cls_knn.py'

model = dict(backbone=dict(init_cfg=dict(type='StudentWeights', student='dmt_mean_tiny')))
