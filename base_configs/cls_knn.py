"""ImageNet k-NN with DINO's protocol (arXiv:2104.14294; its evaluation code is also iBOT's).

No training and no augmentation: training and validation images at 256 (bicubic), centre 224,
features after the final norm, cosine similarity, votes weighted by exp(similarity / 0.07),
k = 10, 20, 100, 200.

Ours: k = 20 is the reported figure, never the best k on validation; besides the class token the
mean of the patch tokens is evaluated.
"""

_base_ = './runtime.py'

protocol = dict(
    name='dino_knn',
    version=1,
    published='dino_knn',
    deviations=dict(
        feature='the mean of the patch tokens is evaluated as well',
        reported='a k chosen on validation would favour whoever is evaluated',
    ),
)

model = dict(
    type='FrozenFeatures',
    data_preprocessor=dict(type='ImageDataPreprocessor'),
    backbone=dict(type='MaskedViT', arch='tiny', frozen=True),
)

centre = dict(type='CenterCrop', size=224, resize=256, interpolation='bicubic')
images = dict(
    batch_size=512,
    num_workers=12,
    pin_memory=True,
    sampler=dict(type='DefaultSampler', shuffle=False),
)
bank_dataloader = dict(
    dataset=dict(type='ImageNetFolder', root='data/imagenet', split='train', views=centre),
    **images,
)
test_dataloader = dict(
    dataset=dict(type='ImageNetFolder', root='data/imagenet', split='val', views=centre),
    **images,
)
test_evaluator = dict(type='Accuracy', topk=(1,))
test_cfg = dict(
    type='KNNTestLoop',
    bank_dataloader=bank_dataloader,
    neighbours=(10, 20, 100, 200),
    report_k=20,
    temperature=0.07,
)
default_hooks = dict(run_record=dict(type='RunRecordHook'))
