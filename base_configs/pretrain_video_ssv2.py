"""The recipe of pretrain_video_k400 on Something-Something V2: 16 frames evenly over 32."""

_base_ = './pretrain_video_k400.py'

train_dataloader = dict(
    dataset=dict(root='data/ssv2', classes=174, sampling=dict(type='linspace', frames=16, stride=2))
)
