"""Linear probe on Kinetics-400: MAE's recipe for images (arXiv:2111.06377) on clips. Ours.

Frozen backbone, BatchNorm without affine and a linear layer on the mean of the cube tokens after
the final norm, 90 epochs, batch 1024 videos as 4 processes x 256, of which BatchNorm normalises 128
at a time, LARS without weight decay, lr 0.1 x 1024 / 256 = 0.4, 10 warm-up epochs from 0, cosine to
0. Clips are sampled, cropped and mirrored as in fine-tuning and not augmented further. Test: 5
clips x 3 crops, whose features are averaged.
"""

_base_ = './video_k400_finetune.py'

protocol = dict(_delete_=True, name='k400_linear', version=1, published=None)

model = dict(
    _delete_=True,
    type='LinearProbe',
    data_preprocessor=dict(type='VideoDataPreprocessor'),
    backbone=dict(type='MaskedVideoViT', arch='video_small', frozen=True),
    num_classes=400,
    pools=('mean',),
    norm_images=128,
)
train_dataloader = dict(
    batch_size=256, dataset=dict(views=dict(auto_augment=None, re_prob=0.0, samples=1))
)

optim_wrapper = dict(
    _delete_=True,
    type='OptimWrapper',
    optimizer=dict(type='Lars', lr=0.4, momentum=0.9, weight_decay=0.0, trust_coeff=0.001),
    constructor='LayerWiseDecayConstructor',
)
auto_scale_lr = dict(base_batch_size=1024)
param_scheduler = [
    dict(type='WarmUpLR', begin=0, end=10, convert_to_iter_based=True),
    dict(type='CosineAnnealingLR', eta_min_ratio=0.0, begin=10, convert_to_iter_based=True),
]
train_cfg = dict(
    _delete_=True, type='LinearProbeLoop', max_epochs=90, cached_passes=0, val_interval=90
)
default_hooks = dict(sync_buffers=dict(type='SyncBuffersHook'))
