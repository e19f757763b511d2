"""GFLOP by formula against figures computed by hand, and against what torch counts."""

import pytest
import torch
from mmengine.registry import MODELS

from backbones import MaskedViT, untrained_teachers
from comad.engine.flops import backbone_gflop, count_training
from tests.benchmark.analytic import comad_gflop, network_gflop, vit_gflop

import comad.engine.register  # noqa: F401  isort:skip


@pytest.mark.parametrize(('share', 'gflop'), [(1.0, 35.1), (0.4, 13.7), (0.5, 17.3), (0.6, 20.9)])
def test_vit_base_at_224_px(share, gflop):
    kept = round(share * 196)
    assert vit_gflop(1 + kept, kept, 768, 12) == pytest.approx(gflop, abs=0.06)


def test_vit_tiny_with_a_quarter_of_the_patches():
    # Trained: three times the forward pass.
    assert 3 * vit_gflop(50, 49, 192, 12) == pytest.approx(1.7, abs=0.1)


def test_a_network_is_counted_as_the_formula_says():
    network = MaskedViT('sample_tiny')
    images, keep = torch.zeros(2, 3, 64, 64), torch.arange(16).expand(2, -1)
    from torch.nn.attention import SDPBackend, sdpa_kernel
    from torch.utils.flop_counter import FlopCounterMode

    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        network.tokens(images, keep)
    assert counter.get_total_flops() / 2e9 == pytest.approx(network_gflop(network, 16), rel=1e-6)


def test_a_step_is_counted_as_the_formula_says():
    teachers = [
        dict(family=family, checkpoint='none', arch='sample_base', mask_ratio=ratio)
        for family, ratio in (('mae', 0.6), ('mocov3', 0.4), ('ibot', 0.2))
    ]
    with untrained_teachers():
        model = MODELS.build(
            dict(
                type='CoMAD',
                backbone=dict(type='MaskedViT', arch='sample_tiny'),
                teachers=teachers,
                decoder=dict(arch='sample_tiny'),
                data_preprocessor=dict(type='ImageDataPreprocessor'),
            )
        )
    images = torch.randint(0, 256, (4, 3, 64, 64), dtype=torch.uint8)
    with torch.no_grad():
        model.fit(iter([model.data_preprocessor(dict(inputs=images))['inputs']]))
    counted = count_training(model, dict(inputs=images), 4)
    formula = comad_gflop(model)
    # What the formula leaves out, alignment, gate and losses, is small but not nothing.
    assert formula < counted < 1.1 * formula


@pytest.mark.parametrize(('height', 'width'), [(32, 48), (30, 41)])
def test_a_counted_backbone_agrees_and_is_left_as_it_was(height, width):
    backbone = MaskedViT(img_size=32, patch_size=8, embed_dim=64, depth=2, num_heads=2)
    backbone.train()
    # An image of 30 x 41 px is padded to 32 x 48 px: 24 patches.
    found = backbone_gflop(backbone, height, width)
    assert found == pytest.approx(vit_gflop(25, 24, 64, 2, patch_size=8), rel=1e-6)
    assert backbone.training
