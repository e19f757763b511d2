import math

import pytest
import torch

from comad.methods.parts.fusion import GATES, ConsensusGate, fuse
from comad.methods.parts.losses import normalize

B, K, N, D = 2, 3, 8, 6


@pytest.fixture
def tokens():
    visible = torch.rand(B, K, N) < 0.6
    visible[:, :, 0] = True  # seen by all
    visible[:, :, 1] = False  # seen by none
    visible[:, 1:, 2], visible[:, 0, 2] = False, True  # seen by one
    aligned = normalize(torch.randn(B, K, N, D)) * visible.unsqueeze(-1)
    return aligned, visible, torch.randn(B, N, D)


def cosine(x, y):
    dot = sum(a * b for a, b in zip(x, y, strict=True))
    return dot / math.sqrt(sum(a * a for a in x) * sum(b * b for b in y))


def loop_weights(aligned, visible, query, mode, balance, tau):
    weights = torch.zeros(B, K, N, dtype=torch.float64)
    for b in range(B):
        for i in range(N):
            seeing = [k for k in range(K) if visible[b, k, i]]
            score = {}
            for k in seeing:
                a = aligned[b, k, i].tolist()
                alpha = cosine(a, query[b, i].tolist())
                others = [cosine(a, aligned[b, j, i].tolist()) for j in seeing if j != k]
                beta = sum(others) / len(others) if others else 0.0
                score[k] = {
                    'sum': balance * alpha + (1 - balance) * beta,
                    'affinity_only': alpha,
                    'agreement_only': beta,
                    'uniform': 0.0,
                }[mode]
            total = sum(math.exp(s / tau) for s in score.values())
            for k in seeing:
                weights[b, k, i] = math.exp(score[k] / tau) / total
    return weights


@pytest.mark.parametrize('mode', GATES)
@pytest.mark.parametrize('balance,tau', [(0.5, 0.1), (0.2, 1.0)])
def test_weights_equal_the_loop(tokens, mode, balance, tau):
    gate = ConsensusGate(mode, balance, tau)(*tokens)
    expected = loop_weights(
        *(x.double() if x.is_floating_point() else x for x in tokens), mode, balance, tau
    )
    assert torch.allclose(gate.weights.double(), expected, atol=1e-5)


@pytest.mark.parametrize('mode', GATES)
def test_weights_sum_to_one_where_seen_and_are_zero_elsewhere(tokens, mode):
    aligned, visible, query = tokens
    weights = ConsensusGate(mode)(aligned, visible, query).weights
    assert torch.allclose(weights.sum(1), visible.any(1).float(), atol=1e-6)
    assert (weights[~visible] == 0).all()


@pytest.mark.parametrize('mode', GATES)
def test_identical_teachers_are_weighed_equally(tokens, mode):
    _, visible, query = tokens
    same = normalize(torch.randn(B, 1, N, D)).expand(B, K, N, D) * visible.unsqueeze(-1)
    weights = ConsensusGate(mode)(same, visible, query).weights
    uniform = visible / visible.sum(1, keepdim=True).clamp(min=1)
    assert torch.allclose(weights, uniform, atol=1e-5)


@pytest.mark.parametrize('mode', GATES)
def test_permuting_teachers_permutes_the_weights(tokens, mode):
    aligned, visible, query = tokens
    order, gate = [2, 0, 1], ConsensusGate(mode)
    weights = gate(aligned, visible, query).weights
    permuted = gate(aligned[:, order], visible[:, order], query).weights
    assert torch.allclose(permuted, weights[:, order], atol=1e-6)
    fused, again = fuse(aligned, weights), fuse(aligned[:, order], permuted)
    assert torch.allclose(fused, again, atol=1e-5)


def test_no_gradient_passes_the_gate(tokens):
    aligned, visible, query = tokens
    aligned.requires_grad_(), query.requires_grad_()
    gate = ConsensusGate()(aligned, visible, query)
    assert not gate.weights.requires_grad and not gate.agreement.requires_grad


def test_small_tau_sharpens_and_large_tau_levels(tokens):
    aligned, visible, query = tokens
    sharp = ConsensusGate(tau=0.001)(aligned, visible, query).weights[:, :, 0]
    level = ConsensusGate(tau=100.0)(aligned, visible, query).weights[:, :, 0]
    assert sharp.max(1).values.min() > 0.99
    assert torch.allclose(level, torch.full_like(level, 1 / 3), atol=0.01)


def test_the_aggregate_has_the_same_length_however_many_saw_it(tokens):
    aligned, visible, query = tokens
    fused = fuse(aligned, ConsensusGate()(aligned, visible, query).weights)
    lengths = fused.norm(dim=-1)
    assert torch.allclose(lengths[visible.any(1)], torch.tensor(math.sqrt(D)), atol=1e-2)
    assert (fused[:, 1] == 0).all()


def test_single_teacher_gets_all_weight(tokens):
    aligned, visible, query = (x[:, :1] if x.dim() > 2 and x.shape[1] == K else x for x in tokens)
    gate = ConsensusGate()(aligned, visible, query)
    assert torch.equal(gate.weights, visible.float())
    assert (gate.agreement == 0).all()


@pytest.mark.parametrize('options', [dict(mode='mean'), dict(tau=0.0), dict(balance=1.5)])
def test_bad_options_are_named(options):
    with pytest.raises(ValueError, match='mean|tau=0.0|balance=1.5'):
        ConsensusGate(**options)
