"""ImageNet with 10 % of the labels: as cls_lowshot_1pct.py, ten times the images."""

_base_ = './cls_lowshot_1pct.py'

protocol = dict(
    _delete_=True,
    name='lowshot_10pct',
    version=1,
    published=None,
)

test_cfg = dict(bank_dataloader=dict(dataset=dict(subset=dict(share=0.1))))
