"""CIFAR-100 for distillation, as OFA-KD has it (arXiv:2310.19444 and its code).

Images of 32 px enlarged to 224 by the crop, CIFAR's own normalisation, which the teacher sees too,
300 epochs, 8 processes x 128 images, rates set once per epoch, weight decay on all but vectors and
biases. Ours: the binary files, and the last epoch is reported where the published tables report the
best of all epochs on the test set.
"""

_base_ = './classification.py'

_mean = (0.5071, 0.4865, 0.4409)
_std = (0.2673, 0.2564, 0.2762)

model = dict(
    backbone=dict(type='StagedClassifier'),
    num_classes=100,
    label_smoothing=0.1,
    data_preprocessor=dict(
        type='ImageDataPreprocessor',
        mean=tuple(round(255 * value, 4) for value in _mean),
        std=tuple(round(255 * value, 4) for value in _std),
    ),
)
train_dataloader = dict(
    batch_size=128,
    num_workers=8,
    collate_fn=dict(type='default_collate'),
    dataset=dict(
        type='CIFAR100',
        root='data/cifar-100-binary',
        split='train',
        with_index=True,
        views=dict(
            type='TimmTrain',
            size=224,
            scale=(0.08, 1.0),
            flip=0.5,
            interpolation='random',
            color_jitter=None,
            re_mean=_mean,
            re_std=_std,
        ),
    ),
)
val_dataloader = dict(
    dataset=dict(
        type='CIFAR100',
        root='data/cifar-100-binary',
        split='val',
        views=dict(type='CenterCrop', size=224, resize=256, interpolation='bicubic'),
    ),
)
test_dataloader = val_dataloader

optim_wrapper = dict(
    # Vectors and biases alone are exempt: class token and positions are decayed there.
    paramwise_cfg=dict(pos_embed_decay_mult=1.0, cls_token_decay_mult=1.0),
)
auto_scale_lr = dict(base_batch_size=1024)
train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=300, val_interval=10)
compile = False
default_hooks = dict(
    checkpoint=dict(interval=10),
    prepare_method=dict(type='PrepareMethodHook'),
    # The student's card comes first: the record takes it from there.
    student_export=dict(type='StudentExportHook'),
    run_record=dict(type='RunRecordHook'),
)

del _mean, _std
