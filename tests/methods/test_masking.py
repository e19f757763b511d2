import pytest
import torch

from comad.methods.parts.masking import check_ratios, draw_masks, to_grid, visibility, visible_count

RATIOS = (0.6, 0.4, 0.2)


def test_counts_at_224_px_are_those_of_the_abstract_and_our_defaults():
    assert visible_count(196, 0.75) == 49
    assert [visible_count(196, ratio) for ratio in RATIOS] == [78, 118, 157]


@pytest.mark.parametrize('relation', ['chain', 'student_subset'])
def test_counts_are_constant_and_patches_distinct(relation):
    masks = draw_masks(relation, 5, 196, 0.75, RATIOS)
    for keep, count in zip((masks.student, *masks.teachers), (49, 78, 118, 157), strict=True):
        assert keep.shape == (5, count)
        assert all(len(row.unique()) == count for row in keep)
        assert keep.min() >= 0 and keep.max() < 196


@pytest.mark.parametrize('relation', ['chain', 'student_subset'])
@pytest.mark.parametrize('ratios', [RATIOS, (0.2, 0.6, 0.4)])
def test_every_teacher_sees_the_student_first(relation, ratios):
    masks = draw_masks(relation, 4, 64, 0.75, ratios)
    for keep in masks.teachers:
        assert torch.equal(keep[:, :16], masks.student)


def test_chain_is_nested_in_the_order_of_the_ratios():
    masks = draw_masks('chain', 4, 64, 0.75, (0.2, 0.6, 0.4))
    seen = {r: visibility(k, 64) for r, k in zip((0.2, 0.6, 0.4), masks.teachers, strict=True)}
    assert (seen[0.6] <= seen[0.4]).all() and (seen[0.4] <= seen[0.2]).all()


def hidden_shares(relation):
    masks = draw_masks(relation, 400, 196, 0.75, RATIOS)
    count = sum(visibility(keep, 196).int() for keep in masks.teachers)
    hidden = count[~visibility(masks.student, 196)]
    return [float((hidden == n).float().mean()) for n in range(4)]


def test_how_often_hidden_patches_have_several_teachers():
    assert hidden_shares('chain') == pytest.approx([0.265, 0.265, 0.272, 0.197], abs=0.01)
    assert hidden_shares('student_subset') == pytest.approx([0.11, 0.44, 0.38, 0.07], abs=0.02)


def test_ratio_zero_keeps_everything():
    masks = draw_masks('chain', 2, 16, 0.0, (0.0,))
    assert torch.equal(masks.teachers[0].sort(1).values, torch.arange(16).expand(2, 16))


def test_images_get_different_masks():
    masks = draw_masks('chain', 8, 64, 0.75, RATIOS)
    assert len(masks.student.sort(1).values.unique(dim=0)) == 8


def test_to_grid_puts_tokens_where_they_belong():
    keep = torch.tensor([[2, 0], [1, 3]])
    tokens = torch.tensor([[[2.0], [10.0]], [[1.0], [3.0]]])
    assert to_grid(tokens, keep, 4)[..., 0].tolist() == [[10, 0, 2, 0], [0, 1, 0, 3]]


def test_bad_values_are_named():
    with pytest.raises(ValueError, match='mask_ratio=1.0'):
        visible_count(16, 1.0)
    with pytest.raises(ValueError, match='0.9'):
        check_ratios(196, 0.75, (0.6, 0.9))
    with pytest.raises(ValueError, match='chain, student_subset'):
        draw_masks('nested', 1, 16, 0.75, (0.5,))
