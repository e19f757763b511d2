"""What a config costs, counted."""

import warnings
from types import SimpleNamespace

from comad.recipes import cost
from comad.recipes.price import price_of


def test_libraries_warn_nobody_while_a_config_is_counted(tmp_path, monkeypatch, recwarn):
    """mmseg warns of its own losses when a head is built."""

    def counted(config, images):
        warnings.warn('would be deprecated soon', UserWarning, stacklevel=2)
        return None, SimpleNamespace(gflop={'backbone': 2.0})

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(cost, 'counted', counted)
    monkeypatch.setattr(cost, 'images_of', lambda dataset: 500)
    loader = dict(dataset={}, num_workers=4)
    config = dict(
        run=dict(digest='d'), test_dataloader=loader, test_cfg=dict(bank_dataloader=loader)
    )
    price = price_of(config)
    assert (price.tflop, price.images, price.workers) == (2.0, 1000, 4)
    assert not recwarn.list and price_of(config) == price
