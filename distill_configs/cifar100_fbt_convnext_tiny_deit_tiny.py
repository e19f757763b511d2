"""Fuse before transfer on CIFAR-100: ConvNeXt-T teaches DeiT-T (arXiv:2410.12342).

    tools/distill.sh fbt cifar100 convnext_tiny deit_tiny             # 8 GPUs x 128 images
    tools/distill.sh fbt cifar100 convnext_tiny deit_tiny --sample    # embedded sample

Hardware and time: 8 GPUs, 300 epochs; not measured. Published: 79.57 (third-party note), the
best epoch on the test set, in a benchmark whose figures others could not repeat; no target.
Choices of ours: comad/distill/fbt.py, a field each; base_configs/distill_cifar100_token.py.
Another method or teacher of a ViT, Swin or MLP: --student <method>_<teacher>_<student>.
"""

_base_ = '../base_configs/distill_cifar100_token.py'

model = dict(
    type='FBT',
    backbone=dict(arch='deit_tiny'),
    teachers=[
        dict(
            family='classifier',
            arch='convnext_tiny',
            checkpoint='teachers/convnext_tiny_cifar100.pth',
        )
    ],
)
sample = dict(
    optim_wrapper=dict(optimizer=dict(lr=2e-3)),
    param_scheduler=[dict(type='TimmSchedule', warm_up=1, warm_up_rate=1e-4, floor=1e-5)],
)
