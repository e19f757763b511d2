"""Distillation into a CNN on ImageNet: SGD with Nesterov's momentum, 100 epochs (OFA-KD).

8 processes x 64 images, rate 0.1, a tenth after 30, 60 and 90 epochs, warm-up of 3 from 1e-4,
weight decay 1e-4, crops and flips alone. Normalised by ImageNet's statistics, for the
teacher too.
"""

_base_ = './distill_cifar100.py'

protocol = dict(
    name='ofa_kd_imagenet_cnn',
    version=1,
    published='ofa_kd_imagenet_cnn',
    deviations=dict(selection='nothing is chosen on the validation images'),
)
_images = dict(type='ImageNetFolder', root='data/imagenet')
model = dict(
    num_classes=1000,
    data_preprocessor=dict(_delete_=True, type='ImageDataPreprocessor'),
)
train_dataloader = dict(
    batch_size=64,
    num_workers=12,
    dataset=dict(
        **_images,
        with_index=True,
        views=dict(
            _delete_=True,
            type='TimmTrain',
            size=224,
            scale=(0.08, 1.0),
            flip=0.5,
            interpolation='random',
            color_jitter=None,
        ),
    ),
)
val_dataloader = dict(dataset=_images)
test_dataloader = val_dataloader
optim_wrapper = dict(
    optimizer=dict(type='SGD', lr=0.1, momentum=0.9, nesterov=True, weight_decay=1e-4),
)
auto_scale_lr = dict(base_batch_size=512)
param_scheduler = [dict(type='TimmSchedule', warm_up=3, warm_up_rate=1e-4, step_every=30)]
train_cfg = dict(max_epochs=100)

del _images
