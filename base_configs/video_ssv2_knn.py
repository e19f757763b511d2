"""k-NN on Something-Something V2: that of Kinetics-400 on the middle frames of 16 segments."""

_base_ = './video_k400_knn.py'

protocol = dict(name='ssv2_knn')

_videos = dict(
    root='data/ssv2',
    classes=174,
    sampling=dict(_delete_=True, type='segment_views', frames=16),
)
bank_dataloader = dict(dataset=_videos)
test_dataloader = dict(dataset=_videos)
test_cfg = dict(bank_dataloader=bank_dataloader)
del _videos
