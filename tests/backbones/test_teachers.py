"""Teachers from official layouts: the right network, all of it, and nothing changes it."""

import argparse
import os

import pytest
import torch
from torch import nn

from backbones import CheckpointError, MaskedViT, build_teacher
from backbones.checkpoints import read_checkpoint

SMALL = dict(arch='sample_base')


def network(seed=0, **options):
    torch.manual_seed(seed)
    return MaskedViT(**{**SMALL, **options}).state_dict()


def prefixed(prefix, tensors):
    return {prefix + name: tensor for name, tensor in tensors.items()}


def official(family, variant=''):
    """The content of an official file around one small network."""
    right, other = network(0), network(1)
    head = {'head.0.weight': torch.zeros(2, 2)}
    if family == 'mae':
        extra = {'mask_token': torch.zeros(1, 1, 4), 'decoder_blocks.0.norm1.weight': torch.ones(4)}
        full = dict(model={**right, **extra}, args=argparse.Namespace(lr=0.1), epoch=3)
        return full if variant == 'full' else dict(model=right)
    if family == 'mocov3':
        state = {
            **prefixed('module.base_encoder.', {**right, **head}),
            **prefixed('module.momentum_encoder.', {**other, **head}),
            'module.predictor.0.weight': torch.zeros(2, 2),
        }
        return dict(epoch=300, arch='vit_base', state_dict=state, optimizer={})
    if variant == 'full':
        student = prefixed('module.backbone.', {**other, 'masked_embed': torch.zeros(1, 128)})
        return dict(
            student=student,
            teacher={**prefixed('backbone.', right), 'head.mlp.0.weight': torch.ones(2)},
            args=argparse.Namespace(),
            epoch=1,
        )
    return dict(state_dict=right)


@pytest.mark.parametrize(
    ('family', 'variant'),
    [
        ('mae', ''),
        ('mae', 'full'),
        ('mocov3', ''),
        ('ibot', ''),
        ('ibot', 'full'),
    ],
)
def test_every_tensor_comes_from_the_right_network(tmp_path, family, variant):
    path = tmp_path / 'teacher.pth'
    torch.save(official(family, variant), path)
    teacher = build_teacher(family, path, **SMALL)
    expected = network(0)
    assert teacher.state_dict().keys() == expected.keys()
    for name, tensor in teacher.state_dict().items():
        assert torch.equal(tensor, expected[name]), name
    assert teacher.card['family'] == family and teacher.card['digest'] == teacher.digest()


@pytest.mark.parametrize(
    ('content', 'message'),
    [
        (lambda: official('mocov3'), 'does not look like a mae file'),
        (lambda: dict(model={}), 'does not look like a mae file'),
        (
            lambda: dict(model={k: v for k, v in network().items() if k != 'norm.weight'}),
            r'1 tensors missing \(norm.weight\)',
        ),
        (
            lambda: dict(model={**network(), 'fc_norm.weight': torch.ones(128)}),
            r'1 tensors unexpected \(fc_norm.weight\)',
        ),
        (lambda: dict(model=network(depth=3)), '12 tensors missing'),
        (lambda: dict(model=network(embed_dim=64, num_heads=2)), 'of wrong shape'),
        (lambda: [1, 2], 'holds a list'),
    ],
)
def test_anything_but_a_complete_match_stops(tmp_path, content, message):
    path = tmp_path / 'teacher.pth'
    torch.save(content(), path)
    with pytest.raises(CheckpointError, match=message):
        build_teacher('mae', path, **SMALL)


class Gadget:
    """A pickle that would create a file when it is loaded."""

    def __init__(self, target):
        self.target = target

    def __reduce__(self):
        return os.mkdir, (self.target,)


def test_code_in_a_pickle_is_refused_and_does_not_run(tmp_path):
    target = tmp_path / 'owned'
    torch.save(
        {'model': {'cls_token': torch.zeros(1)}, 'x': Gadget(str(target))}, tmp_path / 'x.pth'
    )
    with pytest.raises(CheckpointError, match=r'refused: it wants to import .*mkdir'):
        build_teacher('mae', tmp_path / 'x.pth', **SMALL)
    assert not target.exists()


def test_broken_files_get_one_line(tmp_path):
    whole = tmp_path / 'whole.pth'
    torch.save(official('mae'), whole)
    (tmp_path / 'cut.pth').write_bytes(whole.read_bytes()[:5000])
    (tmp_path / 'text.pth').write_text('not weights')
    for name, message in [
        ('cut.pth', 'truncated'),
        ('text.pth', 'is not a PyTorch checkpoint'),
        ('none.pth', 'does not exist'),
        ('.', 'is a directory'),
    ]:
        with pytest.raises(CheckpointError, match=message) as caught:
            read_checkpoint(tmp_path / name)
        assert '\n' not in str(caught.value)


def test_a_held_teacher_is_neither_saved_nor_changed(tmp_path):
    path = tmp_path / 'teacher.pth'
    torch.save(official('mae'), path)
    holder = nn.Module()
    holder.teacher, holder.head = build_teacher('mae', path, **SMALL), nn.Linear(2, 2)
    holder.train()
    assert not holder.teacher.training
    assert list(holder.state_dict()) == ['head.weight', 'head.bias']
    holder.load_state_dict(holder.state_dict(), strict=True)
    holder.teacher.init_weights()
    assert holder.teacher.digest() == holder.teacher.card['digest']
    with torch.no_grad():
        holder.teacher.norm.weight[0] += 1e-6
    assert holder.teacher.digest() != holder.teacher.card['digest']


def test_tokens_carry_no_graph_but_may_enter_one(tmp_path):
    path = tmp_path / 'teacher.pth'
    torch.save(official('ibot'), path)
    teacher = build_teacher('ibot', path, **SMALL)
    tokens = teacher.tokens(torch.randn(1, 3, 64, 64), keep=torch.arange(9)[None])
    assert tokens.shape == (1, 10, 128) and not tokens.requires_grad
    weight = torch.ones(128, requires_grad=True)
    (tokens * weight).sum().backward()
    torch.testing.assert_close(weight.grad, tokens.sum((0, 1)))
