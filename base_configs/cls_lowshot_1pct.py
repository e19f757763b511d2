"""ImageNet with 1 % of the labels: logistic regression on frozen features.

No augmentation: images at 256 (bicubic), centre 224, features after the final norm, standardised;
scikit-learn's logistic regression, its penalty chosen on a fifth of the labelled images. Class
token and mean of the patch tokens are both evaluated.

All of it is our choice. The labelled images are a seeded draw of 1 % per class; for SimCLR's
published list put the file into place and use
``--cfg-options test_cfg.bank_dataloader.dataset.subset.list=data/imagenet/1percent.txt
test_cfg.bank_dataloader.dataset.subset.share=None``.
"""

_base_ = './cls_knn.py'

protocol = dict(
    _delete_=True,
    name='lowshot_1pct',
    version=1,
    published=None,
)

test_cfg = dict(
    _delete_=True,
    type='LowShotTestLoop',
    bank_dataloader=dict(
        dataset=dict(
            type='ImageNetFolder',
            root='data/imagenet',
            split='train',
            views=dict(type='CenterCrop', size=224, resize=256, interpolation='bicubic'),
            subset=dict(share=0.01, seed=0),
        ),
        batch_size=512,
        num_workers=12,
        pin_memory=True,
        sampler=dict(type='DefaultSampler', shuffle=False),
    ),
    strengths=(1e-4, 1e-3, 1e-2, 1e-1, 1.0),
    max_iter=200,
)
