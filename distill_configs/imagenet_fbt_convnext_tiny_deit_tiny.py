"""Fuse before transfer on ImageNet: ConvNeXt-T teaches DeiT-T (arXiv:2410.12342).

    tools/distill.sh fbt imagenet convnext_tiny deit_tiny             # 8 GPUs x 128 images
    tools/distill.sh fbt imagenet convnext_tiny deit_tiny --sample    # embedded sample

Hardware and time: 8 GPUs, 300 epochs; not measured. Published: 75.26 (third-party note), the
best epoch on the validation set, in a benchmark whose figures others could not repeat; no target.
Choices of ours: comad/distill/fbt.py, a field each; base_configs/distill_imagenet_token.py.
Another method or teacher of a ViT, Swin or MLP: --student <method>_<teacher>_<student>.
"""

_base_ = '../base_configs/distill_imagenet_token.py'

model = dict(
    type='FBT',
    backbone=dict(arch='deit_tiny'),
    teachers=[
        dict(
            family='classifier',
            arch='convnext_tiny',
            checkpoint='teachers/convnext_tiny_1k_224_ema.pth',
        )
    ],
)
sample = dict(
    optim_wrapper=dict(optimizer=dict(lr=2e-3)),
    param_scheduler=[dict(type='TimmSchedule', warm_up=1, warm_up_rate=1e-4, floor=1e-5)],
)
