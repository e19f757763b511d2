"""k-NN on Kinetics-400, AMD's ViT-S.

    python tools/train.py video_configs/k400_knn_amd_video_small.py
    python tools/train.py video_configs/k400_knn_amd_video_small.py --sample

Hardware and time: 1 GPU or more, one pass over both lists; not yet measured. Should reach: no
figure is published for this recipe, which is ours.
"""

_base_ = '../base_configs/video_k400_knn.py'

model = dict(backbone=dict(init_cfg=dict(type='StudentWeights', student='amd_video_small')))
