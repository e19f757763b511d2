"""Teachers of several families in one set, and which of their blocks are compared."""

import pytest
import torch

from comad.methods.block_pairs import block_pairs
from comad.methods.positions import choose_positions, sincos_positions
from comad.methods.teacher_set import TeacherSet, unique


def test_a_set_holds_frozen_teachers_and_what_cards_need(teachers):
    built = TeacherSet([*teachers, teachers[0]], (4, 4), masked=True)
    assert built.names == ['mae1', 'mocov3', 'ibot', 'mae2']
    assert built.dims == [32] * 4 and built.depths == [2] * 4
    assert [card['family'] for card in built.cards] == ['mae', 'mocov3', 'ibot', 'mae']
    assert built.cards[0]['digest'] == built.cards[3]['digest'] != built.cards[1]['digest']
    assert not any(p.requires_grad for p in built.parameters())
    assert not torch.nn.ModuleDict(dict(held=built)).state_dict()
    assert not any(network.training for network in built.train())


def test_numbers_only_where_a_name_occurs_twice():
    assert unique(['a', 'b', 'a', 'a']) == ['a1', 'b', 'a2', 'a3']


@pytest.mark.parametrize(
    ('change', 'masked', 'named'),
    [
        (None, False, 'teachers is empty'),
        (dict(), False, 'teacher mae has mask_ratio=0.6'),
        (dict(grid=2), True, r'teacher mae has a grid of \(2, 2\) patches, the student \(4, 4\)'),
    ],
)
def test_what_does_not_fit_is_named(teachers, change, masked, named):
    chosen = [] if change is None else [{**teachers[0], **change}]
    with pytest.raises(ValueError, match=named):
        TeacherSet(chosen, (4, 4), masked=masked)


def test_pairs_of_blocks():
    assert block_pairs('last', 12, [24, 24]) == [(11, 23)]
    assert block_pairs([[11, 23], [5, 11]], 12, [24, 30]) == [(5, 11), (11, 23)]


@pytest.mark.parametrize(
    ('layers', 'named'),
    [
        ('first', "layers='first'"),
        ([], r'layers=\[\]'),
        ([(1,)], r'layers=\[\(1,\)\]'),
        ([(2, 0)], r'names the blocks \(2, 0\): expected student blocks below 2'),
        ([(0, 3)], r'names the blocks \(0, 3\).* teacher blocks below 3'),
        ([(-1, 0)], r'names the blocks \(-1, 0\)'),
        ([(1, 0), (1, 2)], 'names the student block 1 twice'),
        ('last', r"layers='last' with teachers of \[3, 4\] blocks"),
    ],
)
def test_pairs_that_do_not_exist_are_named(layers, named):
    with pytest.raises(ValueError, match=named):
        block_pairs(layers, 2, [3, 4])


def test_positions_of_a_student(build):
    backbone = build('MAE', decoder=dict(arch='sample_tiny')).backbone
    backbone.pos_embed.requires_grad_(True)
    with torch.no_grad():
        backbone.pos_embed.fill_(0.5)
    choose_positions(backbone, 'learned')
    assert backbone.pos_embed.requires_grad and float(backbone.pos_embed.detach().max()) == 0.5
    choose_positions(backbone, 'sincos')
    assert torch.equal(backbone.pos_embed, sincos_positions(32, 4, 'w'))
    assert not backbone.pos_embed.requires_grad
    with pytest.raises(ValueError, match="positions='rope': expected one of sincos, learned"):
        choose_positions(backbone, 'rope')
