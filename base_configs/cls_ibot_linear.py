"""ImageNet linear evaluation with iBOT's sweep (arXiv:2111.07832 and its code).

Frozen backbone, linear layers (normal, std 0.01), 100 epochs, batch 1024, SGD with momentum 0.9
without weight decay, cosine to 0 without warm-up, random resized crop 0.08-1
(bilinear) and flip, validation on the 224 px centre of the image at 256 (bicubic). 45 learning
rates, 1 to 9 times 1e-4 to 1 (times 1024 / 256), are trained side by side. As in iBOT, **the
best of them on validation is reported**, an upward bias that the other linear protocols do not
have; the record names the rate.

Two features: ``cls4``, the class tokens of the last four blocks (iBOT's and DINO's choice for
ViT-S), and ``cls_mean``, class token and mean of the patch tokens (their choice for ViT-B). For a
ViT-T iBOT's script, which looks for "small" or "swin" in the name, would take ``cls_mean``. As in
iBOT's code, the rate changes once per epoch.

Ours: no second sweep over weight decay 1e-6 and LARS, which iBOT's script can add; a last batch
that is not whole is left out (1,251 steps an epoch instead of 1,252).
"""

_base_ = './cls_linear.py'

protocol = dict(
    _delete_=True,
    name='ibot_linear',
    version=1,
    published='ibot_linear',
    deviations=dict(
        feature='the feature that iBOT uses for ViT-B is evaluated as well',
    ),
)

model = dict(
    pools=('cls4', 'cls_mean'),
    batch_norm=False,
    rates=tuple(float(f'{n}e{power}') for power in range(-4, 1) for n in range(1, 10)),
)
train_dataloader = dict(
    batch_size=128, dataset=dict(views=dict(interpolation='bilinear', single_try=False))
)

# The rate of the factor 1.
optim_wrapper = dict(
    optimizer=dict(_delete_=True, type='SGD', lr=4.0, momentum=0.9, weight_decay=0.0)
)
auto_scale_lr = dict(base_batch_size=1024)
param_scheduler = [dict(type='CosineAnnealingLR', eta_min_ratio=0.0, T_max=100)]
train_cfg = dict(max_epochs=100)
