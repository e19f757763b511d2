"""The full-scale classification recipes keep the numbers of their sources."""

import random

import numpy as np
import pytest
import torch
from mmengine.config import Config
from PIL import Image

from comad.data.views import build_views
from tests.resolved import resolved_config

GPUS = 8


def recipe(kind: str) -> Config:
    return resolved_config(f'cls_configs/{kind}_comad_tiny.py')


@pytest.mark.parametrize(
    ('kind', 'batch', 'rate_per_256'), [('linear', 16384, 0.1), ('finetune', 1024, 1e-3)]
)
def test_rate_belongs_to_the_batch(kind, batch, rate_per_256):
    cfg = recipe(kind)
    assert cfg.auto_scale_lr.base_batch_size == batch
    assert cfg.train_dataloader.batch_size * GPUS == batch
    assert cfg.optim_wrapper.optimizer.lr == pytest.approx(rate_per_256 * batch / 256)
    # timm's mixup pairs images, and batch statistics need whole batches.
    assert cfg.train_dataloader.batch_size % 2 == 0 and cfg.train_dataloader.drop_last


def test_finetune_ends_at_1e_6():
    cfg = recipe('finetune')
    floor = cfg.param_scheduler[-1].eta_min_ratio * cfg.optim_wrapper.optimizer.lr
    assert floor == pytest.approx(1e-6)


@pytest.mark.parametrize('kind', ['linear', 'finetune', 'knn'])
def test_evaluation_sees_the_centre_of_256_px(kind):
    cfg = recipe(kind)
    loaders = [cfg.test_dataloader]
    loaders += [cfg.test_cfg.bank_dataloader] if kind == 'knn' else [cfg.val_dataloader]
    wanted = dict(type='CenterCrop', size=224, resize=256, interpolation='bicubic')
    for loader in loaders:
        assert loader.dataset.views == wanted
        assert loader.sampler.shuffle is False and not loader.get('drop_last')


def test_magnitude_10_asks_for_images_without_bits():
    """timm then keeps 0 bits of a posterized image, which Pillow refuses since version 13."""
    views = build_views({**recipe('finetune').train_dataloader.dataset.views, 'size': 32})
    random.seed(0)
    np.random.seed(0)
    torch.manual_seed(0)
    image = Image.fromarray(np.full((48, 48, 3), 200, np.uint8))
    images = [views(image) for _ in range(300)]
    assert {(tuple(i.shape), i.dtype) for i in images} == {((3, 32, 32), torch.uint8)}
    assert any(i.max() == 0 for i in images)
