"""Pretraining on CIFAR-100: 200 epochs."""

_base_ = '../../track_pretrain.py'

train_dataloader = dict(dataset=dict(type='CIFAR100', root='data/cifar-100-binary'))
train_cfg = dict(max_epochs=200)

# iBOT's prototypes stand still for one epoch.
ibot_tiny = dict(model=dict(freeze_prototypes=1 / 200))
ibot_base = ibot_tiny
