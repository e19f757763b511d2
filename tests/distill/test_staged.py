"""Classifiers in four stages: cuts, shapes and sizes, files of today and of timm 0.6."""

import json

import pytest
import timm
import torch

from backbones import CheckpointError, StagedClassifier, load_student, save_student
from backbones.architectures import ARCHITECTURES
from backbones.classifier_files import build_classifier, load_classifier
from backbones.contract import Backbone, Classifier, MapNetwork
from backbones.stage_cuts import block_ends
from backbones.staged_table import NETWORKS, entry_of, evaluation_view
from backbones.student import check_architecture

# Of OFA-KD's networks at 100 classes, and timm's numbers of the four stages.
SIZES = {
    'resnet18': (11.23, (1, 2, 3, 4)),
    'mobilenetv2': (2.35, (1, 2, 3)),
    'deit_tiny': (5.54, (1, 3, 9, 11)),
    'swin_pico': (5.16, (0, 1, 2, 3)),
    'resmlp_small': (15.00, (1, 3, 9, 11)),
    'convnext_tiny': (27.90, (0, 1, 2, 3)),
}
SAMPLES = [name for name in ARCHITECTURES if name.startswith('sample_') and entry_of(name)]


def images(size=64, count=2):
    return torch.randn(count, 3, size, size, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize('arch', SIZES)
def test_stages_are_those_of_timm(arch):
    network = StagedClassifier(arch=arch, num_classes=100).eval()
    params, indices = SIZES[arch]
    assert round(sum(p.numel() for p in network.parameters()) / 1e6, 2) == params
    x = images(224, 1)
    prefix = {'return_prefix_tokens': True} if network.num_prefix else {}
    with torch.no_grad():
        found = network.stages(x)
        _, theirs = network.net.forward_intermediates(x, indices=list(indices), **prefix)
        assert torch.equal(found.logits, network.net(x))
    for ours, other in zip(found.stages, theirs, strict=False):
        if network.num_prefix:
            patches, cls = other
            other = torch.cat([cls, patches.flatten(2).mT], dim=1)
        elif network.family == 'token':
            other = other.flatten(2).mT
        assert torch.equal(ours, other)
    assert network.widths == entry_of(arch).widths
    assert hasattr(network, 'strides') == entry_of(arch).pyramid


def test_mobilenet_ends_with_its_last_convolution():
    network = StagedClassifier(arch='mobilenetv2').eval()
    assert network.widths[3] == 1280 and network.grids == (56, 28, 14, 7)


@pytest.mark.parametrize('arch', SAMPLES)
def test_a_network_is_its_front_and_its_tail(arch):
    network = StagedClassifier(arch=arch, num_classes=10).eval()
    x = images()
    with torch.no_grad():
        front = network.front(x)
        tail = network.tail(network.enter(front[-1]))
        assert torch.equal(tail.logits, network.net(x))
        assert torch.equal(
            network.net.forward_head(network.net.forward_features(x), pre_logits=True),
            tail.penultimate,
        )
    assert network.enter(front[-1]).shape[1 if network.family == 'cnn' else 2] == network.tail_width
    assert isinstance(network, Backbone) and isinstance(network, Classifier)
    assert isinstance(network, MapNetwork) == entry_of(arch).pyramid


def test_the_pooled_feature_of_a_vit_is_its_patches_mean():
    network = StagedClassifier(arch='sample_deit_tiny', num_classes=10).eval()
    with torch.no_grad():
        found, tokens = network.stages(images()), network.net.forward_features(images())
    assert torch.equal(found.pooled, tokens[:, 1:].mean(1))
    assert torch.equal(found.penultimate, tokens[:, 0])


def test_blocks_are_cut_in_proportion():
    assert block_ends(12) == (2, 4, 10) and block_ends(4) == (1, 2, 3)
    assert block_ends(24) == (4, 8, 20) and block_ends(5) == (1, 2, 4)
    with pytest.raises(ValueError, match='at least 4'):
        block_ends(3)


def test_test_views_follow_the_network():
    assert evaluation_view('resnet18') == dict(size=224, resize=256, interpolation='bilinear')
    assert evaluation_view('swin_tiny') == dict(size=224, resize=248, interpolation='bicubic')
    assert all(timm.is_model(entry.model) for entry in NETWORKS.values())


def test_a_card_names_the_network_and_not_timms_weights(tmp_path):
    network = StagedClassifier(arch='sample_resnet18', num_classes=3)
    assert network.architecture()['model'] == 'resnet18'
    path = save_student(tmp_path, network, {'name': 'kd_resnet18'})
    card = tmp_path / 'student.json'
    # Earlier cards name the tag as well; another network stays another one.
    card.write_text(card.read_text().replace('"resnet18"', '"resnet18.tv_in1k"'))
    assert load_student(path).architecture() == network.architecture()
    with pytest.raises(CheckpointError, match='model resnet18.tv_in1k in the card, resnet50 in'):
        check_architecture(json.loads(card.read_text()), dict(model='resnet50'), path)


def test_a_network_that_is_not_known_is_refused():
    with pytest.raises(ValueError, match='timm has no such network'):
        StagedClassifier(model='resnet19')
    with pytest.raises(ValueError, match='cuts are known of ResNet'):
        StagedClassifier(model='vgg11')
    with pytest.raises(ValueError, match='one grid, no maps'):
        StagedClassifier(arch='sample_deit_tiny', out_indices=(0, 1, 2, 3))


def old_swin(state):
    """timm 0.6's names: merging stands at the end of the layer before, the head is bare."""
    renamed = {}
    for name, value in state.items():
        for k in (1, 2, 3):
            name = name.replace(f'layers.{k}.downsample', f'layers.{k - 1}.downsample')
        renamed[name.replace('head.fc.', 'head.')] = value
    renamed['layers.0.blocks.0.attn.relative_position_index'] = torch.zeros(16, 16).long()
    return renamed


def original_convnext(state):
    """Names of the authors' release."""
    renamed = {}
    for name, value in state.items():
        name = name.replace('stem.', 'downsample_layers.0.').replace('.blocks.', '.')
        parts = name.split('.')
        if 'downsample' in parts:
            name = '.'.join(['downsample_layers', parts[1], *parts[3:]])
        name = name.replace('conv_dw', 'dwconv').replace('mlp.fc', 'pwconv')
        name = name.replace('head.norm.', 'norm.').replace('head.fc.', 'head.')
        renamed[name] = value
    return {'model': renamed}


@pytest.mark.parametrize(
    ('arch', 'rename'),
    [
        ('sample_swin_tiny', old_swin),
        ('sample_convnext_tiny', original_convnext),
        (
            'sample_resnet18',
            lambda state: {'state_dict': {f'module.{k}': v for k, v in state.items()}},
        ),
        ('sample_deit_tiny', lambda state: {'model': state}),
    ],
)
def test_files_of_other_codes_fill_completely(arch, rename, tmp_path):
    source = StagedClassifier(arch=arch, num_classes=10).eval()
    torch.save(rename(dict(source.net.state_dict())), tmp_path / 'file.pth')
    teacher = build_classifier(arch, tmp_path / 'file.pth', 10)
    assert torch.equal(teacher.logits(images()), source(images()))
    assert teacher.card['file'] == 'file.pth' and teacher.unchanged()
    with pytest.raises(CheckpointError, match='of wrong shape'):
        build_classifier(arch, tmp_path / 'file.pth', 11)


def test_nothing_is_missing_or_resized(tmp_path):
    source = StagedClassifier(arch='sample_deit_tiny', num_classes=10)
    state = dict(source.net.state_dict())
    torch.save({k: v for k, v in state.items() if k != 'blocks.2.norm1.weight'}, tmp_path / 'a.pth')
    with pytest.raises(CheckpointError, match='missing .blocks.2.norm1.weight'):
        build_classifier('sample_deit_tiny', tmp_path / 'a.pth', 10)
    torch.save({**state, 'pos_embed': torch.zeros(1, 26, 64)}, tmp_path / 'b.pth')
    with pytest.raises(CheckpointError, match='img_size=80 reads it'):
        build_classifier('sample_deit_tiny', tmp_path / 'b.pth', 10)


def test_a_fine_tuning_keeps_its_own_classifier(tmp_path):
    source = StagedClassifier(arch='sample_swin_tiny', num_classes=10)
    torch.save(source.net.state_dict(), tmp_path / 'file.pth')
    network = StagedClassifier(arch='sample_swin_tiny', num_classes=4)
    head = network.net.head.fc.weight.clone()
    load_classifier(network, tmp_path / 'file.pth', new_head=True)
    assert torch.equal(network.net.head.fc.weight, head)
    assert torch.equal(network.net.norm.weight, source.net.norm.weight)
    assert torch.equal(
        network.net.layers[3].blocks[0].mlp.fc1.weight,
        source.net.layers[3].blocks[0].mlp.fc1.weight,
    )


@pytest.mark.parametrize('arch', ['sample_resnet18', 'sample_swin_pico'])
def test_a_student_is_read_whole_and_as_maps(arch, tmp_path):
    student = StagedClassifier(arch=arch, num_classes=10).eval()
    path = save_student(tmp_path, student, {'name': 'kd_x'})
    assert torch.equal(load_student(path).eval()(images()), student(images()))
    maps = StagedClassifier(
        arch=arch, out_indices=(0, 1, 2, 3), init_cfg=dict(checkpoint=str(path))
    ).eval()
    maps.init_weights()
    with torch.no_grad():
        found, stages = maps(images()), student.stages(images()).stages
    assert [x.shape[2] for x in found] == [16, 8, 4, 2]
    assert torch.equal(
        found[2].flatten(2), (stages[2] if stages[2].ndim == 4 else stages[2].mT).flatten(2)
    )
    frozen = [n for n, p in maps.named_parameters() if not p.requires_grad]
    assert frozen == ([] if 'resnet' in arch else ['net.norm.weight', 'net.norm.bias'])
    assert maps(images(96))[0].shape[2:] == (24, 24)
    trained = [p for p in maps.parameters() if p.requires_grad]
    sum(x.sum() for x in maps(images())).backward()
    assert all(p.grad is not None for p in trained)
