"""The registry of architectures: names, titles, sizes."""

import pytest
import timm

from backbones import MaskedViT
from backbones.architectures import (
    ARCHITECTURES,
    card_name,
    display_name,
    missing_sizes,
    network_config,
    sample_name,
    split_name,
    timm_name,
    vits,
)
from tests.backbones.toy_networks import registered


def test_tables_show_patch_size_and_whether_it_is_the_samples():
    small = {'patch_size': 8, 'num_heads': 2}
    assert display_name('tiny', {'patch_size': 16}) == 'ViT-Tiny/16'
    assert display_name('tiny', small, sample=True) == 'ViT-Sample-Tiny/8'
    assert display_name('sample_tiny', small, sample=True) == 'ViT-Sample-Tiny/8'
    assert display_name('tiny') == 'ViT-Tiny'


def test_cards_show_heads():
    assert card_name({'arch': 'tiny'}) == 'ViT-T/16, 3 heads'
    assert card_name({'arch': 'tiny', 'num_heads': 12}) == 'ViT-T/16, 12 heads'
    assert card_name({'arch': 'sample_tiny'}) == 'ViT-sample_tiny/8, 2 heads'
    assert card_name({'type': 'MaskedViT', 'arch': 'huge'}) == 'ViT-H/14, 16 heads'


def test_an_entry_is_all_that_another_network_needs():
    with registered():
        assert split_name('comad_kd_cnn3') == ('comad_kd', 'cnn3')
        assert split_name('comad_cnn3_head') == ('comad', 'cnn3_head')
        assert display_name('cnn3', {'type': 'ToyMaps'}) == 'CNN-3'
        assert display_name('cnn3', {'type': 'ToyMaps'}, sample=True) == 'Sample-CNN-3'
        assert card_name({'type': 'ToyMaps', 'arch': 'cnn3'}) == 'CNN-3'
        assert network_config('cnn3') == {'type': 'ToyMaps', 'width': 8}
        assert sample_name('cnn3') == 'sample_cnn3' and sample_name('cnn3_head') is None
        assert 'cnn3' not in vits()
    assert split_name('comad_cnn3') is None and 'cnn3' not in ARCHITECTURES


@pytest.mark.parametrize('name', ['comad', '_tiny', 'tiny', 'comad_', 'comad_nano'])
def test_names_without_method_or_architecture_are_none(name):
    assert split_name(name) is None


def test_a_vit_states_its_sizes_and_others_their_type():
    whole = dict(ARCHITECTURES['tiny'])
    assert missing_sizes('tiny', whole) == []
    assert missing_sizes('tiny', {**whole, 'depth': 0}) == ['depth']
    assert missing_sizes('tiny', None) == ['embed_dim', 'depth', 'num_heads', 'patch_size']
    assert missing_sizes('resnet', {'type': 'ResNet'}) == []
    with registered():
        assert missing_sizes('cnn3', {}) == ['type']


@pytest.mark.parametrize('arch', ['tiny', 'small', 'base', 'large', 'huge'])
def test_sizes_are_those_of_timms_network_of_that_name(arch):
    name, changed = timm_name(ARCHITECTURES[arch])
    assert changed == {} and timm.is_model(name)
    published = timm.get_pretrained_cfg(name)
    assert published.input_size[-1] == ARCHITECTURES[arch]['img_size']
    if arch in ('tiny', 'small'):  # the others weigh seconds to gigabytes
        ours = {k: tuple(v.shape) for k, v in MaskedViT(arch).state_dict().items()}
        theirs = timm.create_model(name, num_classes=0).state_dict()
        assert ours == {k: tuple(v.shape) for k, v in theirs.items()}


@pytest.mark.parametrize(('arch', 'millions'), [('large', 303.3), ('huge', 630.8)])
def test_large_and_huge_have_the_published_parameters(arch, millions):
    """ViT-L/16 and ViT-H/14 without classifier (arXiv:2010.11929, table 1: 307M and 632M)."""
    a = ARCHITECTURES[arch]
    width, patches = a['embed_dim'], (a['img_size'] // a['patch_size']) ** 2
    block = 12 * width**2 + 13 * width
    embedding = (3 * a['patch_size'] ** 2 + 1) * width + (patches + 2) * width
    assert (a['depth'] * block + embedding + 2 * width) / 1e6 == pytest.approx(millions, abs=0.05)
