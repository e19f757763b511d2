"""k-NN on Kinetics-400: DINO's protocol for images (arXiv:2104.14294) on clips; all of it ours.

No training and no augmentation: the middle clip of 16 frames at stride 4 of every video, middle
crop at 224 px, the mean of the cube tokens after the final norm, cosine similarity, votes weighted
by exp(similarity / 0.07), k = 10, 20, 100, 200; k = 20 is the reported figure.
"""

_base_ = './cls_knn.py'

protocol = dict(_delete_=True, name='k400_knn', version=1, published=None)

model = dict(
    data_preprocessor=dict(type='VideoDataPreprocessor'),
    backbone=dict(type='MaskedVideoViT', arch='video_small'),
    pools=('mean',),
)

_videos = dict(
    _delete_=True,
    type='VideoList',
    root='data/kinetics400',
    classes=400,
    sampling=dict(type='dense_views', frames=16, stride=4),
    views=dict(type='ClipTest', size=224, crops=1),
)
bank_dataloader = dict(batch_size=64, dataset=dict(split='train', **_videos))
test_dataloader = dict(batch_size=64, dataset=dict(split='val', **_videos))
test_evaluator = dict(topk=(1, 5))
test_cfg = dict(bank_dataloader=bank_dataloader, pools=('mean',))
del _videos
