"""Overlay for video_configs/ on the embedded sample: 4 frames of 64 px, 1,200 / 400 clips.

Rates follow from the length. Some 300 steps from scratch never leave chance under a layer decay of
0.75, mixing, smoothing and stochastic depth, so none of these is on; digits are neither mirrored
nor recoloured. Kinetics' stand-in is labelled by the digit, Something-Something's by its motion,
which 300 steps learn completely even from random weights: it gets a quarter of them.
"""

_loader = dict(num_workers=0, persistent_workers=False, pin_memory=False)
_train = dict(size=64, scale=(0.8, 1.0), flip=0.0, auto_augment=None, re_prob=0.0, samples=1)
_test = dict(batch_size=50, **_loader)
_common = dict(
    compile=False,
    optim_wrapper=dict(optimizer=dict(lr=2e-3), paramwise_cfg=dict(decay_rate=1.0)),
    train_cfg=dict(max_epochs=8, val_interval=8),
    param_scheduler=[
        dict(type='WarmUpLR', begin=0, end=1, linspace=True, convert_to_iter_based=True),
        dict(type='CosineAnnealingLR', eta_min_ratio=1e-3, begin=1, convert_to_iter_based=True),
    ],
    default_hooks=dict(checkpoint=dict(interval=8)),
)
_model = dict(mixup=None, label_smoothing=0.0, backbone=dict(drop_path_rate=0.0))
_k400 = dict(root='data/sample_video/kinetics400', classes=10, sampling=dict(frames=4, stride=4))
_ssv2 = dict(root='data/sample_video/ssv2', classes=8, sampling=dict(frames=4))
_k400_test = dict(dataset=dict(views=dict(size=64), **_k400), **_test)
_ssv2_test = dict(dataset=dict(views=dict(size=64), **_ssv2), **_test)

k400_finetune = dict(
    model=dict(num_classes=10, **_model),
    train_dataloader=dict(dataset=dict(views=_train, **_k400), batch_size=32, **_loader),
    val_dataloader=_k400_test,
    test_dataloader=_k400_test,
    **_common,
)
ssv2_finetune = dict(
    model=dict(num_classes=8, **_model),
    train_dataloader=dict(dataset=dict(views=_train, **_ssv2), batch_size=32, **_loader),
    val_dataloader=_ssv2_test,
    test_dataloader=_ssv2_test,
    **_common
    | dict(
        train_cfg=dict(max_epochs=2, val_interval=2),
        default_hooks=dict(checkpoint=dict(interval=2)),
    ),
)
# The rate follows from the length: 1,800 steps on cached features, as the probe of images has.
_probe = dict(
    optim_wrapper=dict(optimizer=dict(lr=25.6)),
    train_cfg=dict(max_epochs=200, cached_passes=1, val_interval=200),
    param_scheduler=[
        dict(type='WarmUpLR', begin=0, end=20, convert_to_iter_based=True),
        dict(type='CosineAnnealingLR', eta_min_ratio=0.0, begin=20, convert_to_iter_based=True),
    ],
    default_hooks=dict(checkpoint=dict(interval=200)),
)
k400_linear = dict(
    model=dict(num_classes=10),
    train_dataloader=dict(dataset=dict(views=_train, **_k400), batch_size=128, **_loader),
    val_dataloader=_k400_test,
    test_dataloader=_k400_test,
    **_probe,
)
ssv2_linear = dict(
    model=dict(num_classes=8),
    train_dataloader=dict(dataset=dict(views=_train, **_ssv2), batch_size=128, **_loader),
    val_dataloader=_ssv2_test,
    test_dataloader=_ssv2_test,
    **_probe,
)
k400_knn = dict(test_dataloader=_k400_test, test_cfg=dict(bank_dataloader=_k400_test))
ssv2_knn = dict(test_dataloader=_ssv2_test, test_cfg=dict(bank_dataloader=_ssv2_test))

del _loader, _train, _test, _common, _model, _probe, _k400, _ssv2, _k400_test, _ssv2_test
