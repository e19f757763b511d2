"""Teachers of several families in one set, and the positions of a student."""

import pytest
import torch

from comad.methods.parts.positions import choose_positions, sincos_positions
from comad.methods.parts.teacher_set import TeacherSet, unique


def test_a_set_holds_frozen_teachers_and_what_cards_need(teachers):
    built = TeacherSet([*teachers, teachers[0]], (4, 4), reads=['mask_ratio'])
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
    ('change', 'reads', 'named'),
    [
        (None, [], 'teachers is empty'),
        (dict(), [], 'teacher mae has mask_ratio=0.6, which this method does not read'),
        (dict(role='features'), ['mask_ratio'], "teacher mae has role='features'"),
        (
            dict(grid=2),
            ['mask_ratio'],
            r'teacher mae has a grid of \(2, 2\) patches, the student \(4, 4\)',
        ),
    ],
)
def test_what_does_not_fit_is_named(teachers, change, reads, named):
    chosen = [] if change is None else [{**teachers[0], **change}]
    with pytest.raises(ValueError, match=named):
        TeacherSet(chosen, (4, 4), reads=reads)


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
