"""Linear probe on Something-Something V2: that of Kinetics-400 on one random frame per segment.

No mirroring, since left and right are labels; test on 2 clips x 3 crops.
"""

_base_ = './video_k400_linear.py'

protocol = dict(name='ssv2_linear')

_ssv2 = dict(root='data/ssv2', classes=174)
model = dict(num_classes=174)
train_dataloader = dict(
    dataset=dict(
        sampling=dict(_delete_=True, type='segments', frames=16), views=dict(flip=0.0), **_ssv2
    )
)
val_dataloader = dict(
    dataset=dict(sampling=dict(_delete_=True, type='segment_views', frames=16, clips=2), **_ssv2)
)
test_dataloader = val_dataloader
del _ssv2
