"""Pretraining overnight: ImageNet-100, 100 epochs."""

_base_ = '../../track_pretrain.py'

train_dataloader = dict(dataset=dict(classes='imagenet-100'))
train_cfg = dict(max_epochs=100)

# iBOT's prototypes stand still for one epoch.
ibot_tiny = dict(model=dict(freeze_prototypes=1 / 100))
ibot_base = ibot_tiny
