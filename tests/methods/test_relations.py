"""Token relations and redundancy against formulas written as loops in float64."""

import math

import pytest
import torch

from comad.methods.parts.redundancy import draw_survivors, dropped_counts, redundancy
from comad.methods.parts.relations import regroup, relation_kl, select_tokens


def softmax(values):
    exps = [math.exp(v - max(values)) for v in values]
    return [e / sum(exps) for e in exps]


def head_vectors(x, b, relation_heads):
    """(H, T, c) of image b as [relation head][token] -> vector, by slices of the joined width."""
    H, T, c = x.shape[1:]
    joined = [[float(x[b, h, t, i]) for h in range(H) for i in range(c)] for t in range(T)]
    size = H * c // relation_heads
    return [[row[a * size : (a + 1) * size] for row in joined] for a in range(relation_heads)]


def whole_relation(x, y):
    """[query] -> distribution over all tokens, for one relation head."""
    scale = math.sqrt(len(x[0]))
    return [softmax([sum(p * q for p, q in zip(a, b, strict=True)) / scale for b in y]) for a in x]


def expected_kl(target, student, keep, relation_heads):
    """The teacher's relations over all its tokens, restricted to the kept ones, renormalised."""
    B, total = len(keep), 0.0
    for first, second in ((0, 1), (2, 2)):
        terms = []
        for b in range(B):
            rows = [0] + [1 + int(i) for i in keep[b]]
            sides = [
                [head_vectors(x[i], b, relation_heads) for i in (first, second)]
                for x in (target, student)
            ]
            for a in range(relation_heads):
                whole = whole_relation(sides[0][0][a], sides[0][1][a])
                predicted = whole_relation(sides[1][0][a], sides[1][1][a])
                for place, row in enumerate(rows):
                    p = [whole[row][k] for k in rows]
                    p = [v / sum(p) for v in p]
                    pairs = zip(p, predicted[place], strict=True)
                    terms.append(sum(v * (math.log(v) - math.log(w)) for v, w in pairs))
        total += sum(terms) / len(terms)
    return total


def qkv(heads, tokens, channels):
    return tuple(torch.randn(2, heads, tokens, channels, dtype=torch.float64) for _ in range(3))


@pytest.mark.parametrize('relation_heads', [1, 3, 6])
def test_relation_kl_of_kept_tokens_equals_a_loop(relation_heads):
    target, student = qkv(4, 9, 6), qkv(2, 6, 3)  # widths 24 and 6
    keep = torch.tensor([[0, 2, 3, 5, 7], [1, 2, 4, 6, 7]])
    cut = tuple(select_tokens(x, keep) for x in target)
    found = relation_kl(cut, student, relation_heads)
    assert float(found) == pytest.approx(
        expected_kl(target, student, keep, relation_heads), rel=1e-5
    )


def test_regrouping_cuts_the_joined_width_and_keeps_the_tokens():
    x = torch.arange(2 * 4 * 3 * 2.0).reshape(2, 4, 3, 2)
    grouped = regroup(x, 2)
    assert grouped.shape == (2, 2, 3, 4)
    for b, token in ((0, 0), (1, 2)):
        joined = [x[b, h, token].tolist() for h in range(4)]
        assert grouped[b, 0, token].tolist() == joined[0] + joined[1]
        assert grouped[b, 1, token].tolist() == joined[2] + joined[3]
    assert torch.equal(regroup(x, 4), x)
    with pytest.raises(ValueError, match='relation_heads=3: expected a divisor of the width 8'):
        regroup(x, 3)


def test_relations_are_zero_for_equal_networks_and_pass_gradients():
    target = qkv(4, 5, 6)
    assert float(relation_kl(target, target, 8)) == pytest.approx(0, abs=1e-7)
    # Other heads, the same joined width: what a relation is does not depend on a network's heads.
    other = tuple(regroup(x, 2) for x in target)
    assert float(relation_kl(target, other, 8)) == pytest.approx(0, abs=1e-7)
    student = [x.clone().requires_grad_() for x in qkv(2, 5, 3)]
    relation_kl(target, tuple(student), 2).backward()
    assert all(float(x.grad.abs().sum()) > 0 for x in student)


def test_select_tokens_keeps_the_class_token_first():
    x = torch.arange(2 * 5.0).reshape(2, 5, 1)
    keep = torch.tensor([[0, 2], [1, 3]])
    assert select_tokens(x, keep)[..., 0].tolist() == [[0, 1, 3], [5, 7, 9]]
    heads = x.unsqueeze(1).expand(-1, 3, -1, -1)
    assert select_tokens(heads, keep)[1, 2, :, 0].tolist() == [5, 7, 9]


def test_redundancy_is_the_mean_cosine_to_the_others():
    tokens = torch.randn(2, 5, 7)
    found = redundancy(tokens)
    for b in range(2):
        for i in range(5):
            cosines = []
            for j in range(5):
                if j != i:
                    x, y = tokens[b, i].double(), tokens[b, j].double()
                    cosines.append(float(x @ y / (x.norm() * y.norm())))
            assert float(found[b, i]) == pytest.approx(sum(cosines) / 4, abs=1e-6)


def test_the_most_redundant_tokens_go():
    tokens = torch.randn(1, 6, 32)
    tokens[0, [1, 2, 4]] = tokens[0, 1] + 0.05 * torch.randn(3, 32)
    assert draw_survivors(redundancy(tokens), 3, 1.0).tolist() == [[0, 3, 5]]


def test_the_pool_limits_who_goes_and_chance_decides_within_it():
    score = torch.tensor([0.1, 0.9, 0.3, 0.8, 0.7, 0.2, 0.6, 0.0]).repeat(3000, 1)
    left = draw_survivors(score, 2, 2.0)
    assert left.shape == (3000, 6)
    assert (left.diff(dim=1) > 0).all()
    gone = torch.ones(3000, 8).scatter_(1, left, 0).mean(0)
    assert gone[[0, 2, 5, 7]].tolist() == [0, 0, 0, 0]
    # Two of four: each goes with probability 1/2; 5 standard deviations are 0.046.
    assert gone[[1, 3, 4, 6]].tolist() == pytest.approx([0.5] * 4, abs=0.046)
    assert draw_survivors(score, 6, 2.0).shape == (3000, 2)


def test_counts_of_a_schedule():
    assert dropped_counts(196, 12, [(4, 0.25), (8, 0.25)]) == {4: 49, 8: 37}
    assert dropped_counts(196, 12, []) == {}


@pytest.mark.parametrize(
    ('drops', 'named'),
    [
        ([(12, 0.2)], 'block 12; expected rising blocks from 1 to 11'),
        ([(4, 0.2), (4, 0.2)], 'block 4'),
        ([(0, 0.2)], 'block 0'),
        ([(4, 1.0)], 'share 1.0; expected one between 0 and 1'),
        ([(4, 0.99), (5, 0.9)], 'leave 0 of 196 patches; expected at least 2'),
    ],
)
def test_bad_schedules_are_named(drops, named):
    with pytest.raises(ValueError, match=named):
        dropped_counts(196, 12, drops)
