"""ImageNet linear probe with MAE's recipe (arXiv:2111.06377, table 10 and its code).

Frozen backbone, BatchNorm without affine and a linear layer, 90 epochs, batch 16384, LARS without
weight decay, lr 0.1 x 16384 / 256 = 6.4, 10 warm-up epochs, cosine to 0, random resized crop
0.08-1 drawn once (bicubic) and flip; validation on the 224 px centre of the image at 256 (bicubic).

BatchNorm normalises 512 images at a time, MAE's batch per process, however many a process gets.

Ours: class token and mean of the patch tokens are both probed, in one run (MAE: class token);
running statistics are averaged over a process's parts, and over the processes after every epoch
(MAE: those of the first 512); a last batch that is not whole is left out (MAE: also). MAE trains in
mixed precision; here that is --amp. Version 2 draws the crop once as MAE does (version 1 took
torchvision's, which tries ten times); version 3 normalises 512 images at a time (before: all of a
process) and starts the warm-up at 0.
"""

_base_ = './classification.py'

protocol = dict(
    name='mae_linear',
    version=3,
    published='mae_linear',
    deviations=dict(
        feature='the mean of the patch tokens is evaluated as well',
        precision='float32 unless --amp is given, which is bfloat16',
    ),
)

model = dict(
    type='LinearProbe',
    data_preprocessor=dict(type='ImageDataPreprocessor'),
    backbone=dict(type='MaskedViT', arch='tiny', frozen=True),
    num_classes=1000,
    pools=('cls', 'mean'),
    norm_images=512,
)

train_dataloader = dict(
    batch_size=2048,
    dataset=dict(
        type='ImageNetFolder',
        root='data/imagenet',
        split='train',
        views=dict(
            type='SingleView',
            size=224,
            scale=(0.08, 1.0),
            interpolation='bicubic',
            single_try=True,
        ),
    ),
)
val_dataloader = dict(
    batch_size=512,
    dataset=dict(
        type='ImageNetFolder',
        root='data/imagenet',
        split='val',
        views=dict(type='CenterCrop', size=224, resize=256, interpolation='bicubic'),
    ),
)
test_dataloader = val_dataloader

optim_wrapper = dict(
    optimizer=dict(type='Lars', lr=6.4, momentum=0.9, weight_decay=0.0, trust_coeff=0.001),
)
auto_scale_lr = dict(base_batch_size=16384)
param_scheduler = [
    dict(type='WarmUpLR', begin=0, end=10, convert_to_iter_based=True),
    dict(type='CosineAnnealingLR', eta_min_ratio=0.0, begin=10, convert_to_iter_based=True),
]
train_cfg = dict(type='LinearProbeLoop', max_epochs=90, cached_passes=0, val_interval=10)
default_hooks = dict(
    sync_buffers=dict(type='SyncBuffersHook'),
    run_record=dict(type='RunRecordHook'),
)
