"""Fuse before transfer on CIFAR-100: Swin-T teaches ResNet-18 (arXiv:2410.12342).

    tools/distill.sh fbt cifar100 swin_tiny resnet18             # 8 GPUs x 128 images
    tools/distill.sh fbt cifar100 swin_tiny resnet18 --sample    # embedded sample

Hardware and time: 8 GPUs, 300 epochs; not measured. Published: 81.61 (third-party note), the
best epoch on the test set, in a benchmark whose figures others could not repeat; no target.
Choices of ours: comad/distill/fbt.py, a field each; base_configs/distill_cifar100_cnn.py.
Another method or teacher of a CNN: --student <method>_<teacher>_<student>.
"""

_base_ = '../base_configs/distill_cifar100_cnn.py'

model = dict(
    type='FBT',
    backbone=dict(arch='resnet18'),
    teachers=[
        dict(
            family='classifier',
            arch='swin_tiny',
            checkpoint='teachers/swin_tiny_patch4_window7_224_cifar100.pth',
        )
    ],
)
val_dataloader = dict(dataset=dict(views=dict(interpolation='bilinear')))
test_dataloader = val_dataloader
# The rate of the short training; 465 steps of 64 images.
sample = dict(
    param_scheduler=[dict(type='TimmSchedule', warm_up=1, warm_up_rate=1e-3, floor=1e-3)],
)
