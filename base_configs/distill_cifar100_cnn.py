"""Distillation into a CNN on CIFAR-100: SGD with Nesterov's momentum, 300 epochs (OFA-KD).

Rate 0.05 (its repository; issue 14 shows 0.1 for ResNet-18), cosine to 1e-3 over all epochs,
warm-up of 3 from 1e-4, weight decay 2e-3, crops and flips alone. Tests: 224 px of 256, bilinear for
ResNet-18, bicubic for MobileNetV2.
"""

_base_ = './distill_cifar100.py'

protocol = dict(
    name='ofa_kd_cifar100_cnn',
    version=1,
    published='ofa_kd_cifar100_cnn',
    deviations=dict(selection='nothing is chosen on the test set'),
)
optim_wrapper = dict(
    optimizer=dict(type='SGD', lr=0.05, momentum=0.9, nesterov=True, weight_decay=2e-3),
)
param_scheduler = [dict(type='TimmSchedule', warm_up=3, warm_up_rate=1e-4, floor=1e-3)]
