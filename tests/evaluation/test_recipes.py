"""The full-scale classification recipes keep the numbers of their sources."""

import random

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.registry import MODELS
from PIL import Image

import comad.engine.register  # noqa: F401
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


# MAE: 2e-5; MAE-Lite leaves its head as timm 0.4.12 makes it, measured 0.02004; iBOT: 0.02 x 0.001.
HEADS = {'finetune': 0.02, 'mae_finetune': 2e-5, 'tinymim_finetune': 2e-5, 'ibot_finetune': 2e-5}


@pytest.mark.parametrize('kind', HEADS)
def test_heads_start_as_in_their_source(kind):
    model = resolved_config(f'cls_configs/{kind}_comad_tiny.py').model
    model.backbone.update(arch='sample_tiny', init_cfg=None)
    torch.manual_seed(0)
    head = MODELS.build(model).head
    assert float(head.weight.detach().std()) == pytest.approx(HEADS[kind], rel=0.02)
    assert not head.bias.any()


def test_ibots_fine_tuning_is_validated_bilinearly():
    """Its code says ``Resize(256, interpolation=2)``, which is bilinear; training is bicubic."""
    cfg = recipe('ibot_finetune')
    wanted = dict(type='CenterCrop', size=224, resize=256, interpolation='bilinear')
    for loader in (cfg.val_dataloader, cfg.test_dataloader):
        assert loader.dataset.views == wanted
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (300, 400, 3), np.uint8))
    found = build_views(wanted)(image).permute(1, 2, 0).numpy()
    resized = image.resize((341, 256), Image.Resampling.BILINEAR)
    left, top = round((341 - 224) / 2), round((256 - 224) / 2)
    assert (found == np.asarray(resized.crop((left, top, left + 224, top + 224)))).all()


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
