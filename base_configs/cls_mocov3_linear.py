"""ImageNet linear probe with MoCo v3's recipe (arXiv:2104.02057, A.1 and its code).

Frozen backbone in eval mode, a plain linear layer (normal, std 0.01), 90 epochs, batch 1024, SGD
with momentum 0.9 without weight decay, lr 3 x 1024 / 256 = 12, cosine to 0 without warm-up,
random resized crop 0.08-1 and flip, validation at 256 / 224; both bilinear.

As in MoCo v3's code, the rate changes once per epoch.

Ours: class token and mean of the patch tokens are both probed, in one run (MoCo v3: class token); a
last batch that is not whole is left out (1,251 steps an epoch instead of 1,252).
"""

_base_ = './cls_linear.py'

protocol = dict(
    _delete_=True,
    name='mocov3_linear',
    version=1,
    published='mocov3_linear',
    deviations=dict(
        feature='the mean of the patch tokens is evaluated as well',
    ),
)

model = dict(batch_norm=False)
train_dataloader = dict(
    batch_size=128, dataset=dict(views=dict(interpolation='bilinear', single_try=False))
)
val_dataloader = dict(dataset=dict(views=dict(interpolation='bilinear')))
test_dataloader = val_dataloader

optim_wrapper = dict(
    optimizer=dict(_delete_=True, type='SGD', lr=12.0, momentum=0.9, weight_decay=0.0)
)
auto_scale_lr = dict(base_batch_size=1024)
param_scheduler = [dict(type='CosineAnnealingLR', eta_min_ratio=0.0, T_max=90)]
