"""Attention distance and mutual information against loops, and at the ends of their range."""

import math

import pytest
import torch

from comad.methods.parts.attention import (
    attention_distance,
    attention_nmi,
    attention_statistics,
)

ROWS, COLUMNS = 3, 4
N = ROWS * COLUMNS


def distance_by_loop(attention):
    total = 0.0
    for q in range(N):
        for k in range(N):
            across, down = q % COLUMNS - k % COLUMNS, q // COLUMNS - k // COLUMNS
            total += float(attention[q, k]) * math.hypot(across, down)
    return total / N


def nmi_by_loop(attention):
    joint = [[float(v) / N for v in row] for row in attention]
    columns = [sum(row[k] for row in joint) for k in range(N)]
    information = sum(
        p * math.log(p / (columns[k] / N)) for row in joint for k, p in enumerate(row) if p > 0
    )
    entropy = -sum(p * math.log(p) for p in columns if p > 0)
    return information / math.sqrt(entropy * math.log(N))


def test_both_equal_a_loop():
    attention = (3 * torch.randn(2, 5, N, N, dtype=torch.float64)).softmax(-1)
    distance, nmi = attention_distance(attention, (ROWS, COLUMNS)), attention_nmi(attention)
    assert distance.shape == nmi.shape == (2, 5)
    for b in range(2):
        for h in range(5):
            assert float(distance[b, h]) == pytest.approx(distance_by_loop(attention[b, h]))
            assert float(nmi[b, h]) == pytest.approx(nmi_by_loop(attention[b, h]))


def test_ends_of_the_range():
    itself, uniform = torch.eye(N), torch.full((N, N), 1 / N)
    shuffled = itself[torch.randperm(N)]
    one_key = torch.zeros(N, N).index_fill_(1, torch.tensor([5]), 1.0)
    rows_alike = torch.rand(1, N).softmax(-1).expand(N, N)
    assert float(attention_distance(itself, (ROWS, COLUMNS))) == 0
    assert float(attention_nmi(itself)) == pytest.approx(1, abs=1e-6)
    assert float(attention_nmi(shuffled)) == pytest.approx(1, abs=1e-6)
    for same in (uniform, one_key, rows_alike):
        assert float(attention_nmi(same)) == pytest.approx(0, abs=1e-3)
    # On a line of n patches the mean distance of two is (n^2 - 1) / (3 n).
    line = torch.full((9, 9), 1 / 9)
    assert float(attention_distance(line, (1, 9))) == pytest.approx(80 / 27, rel=1e-5)


def test_a_networks_own_attention_is_measured(build, images):
    backbone = build('MAE', decoder=dict(arch='sample_tiny')).backbone
    found = attention_statistics(backbone, images)
    assert found.distance.shape == found.nmi.shape == (2, 2)
    # The second block as timm computes it, its softmax cut to the patches and renormalised.
    x = backbone.blocks[0](backbone.embed(images))
    q, k, _ = backbone.qkv(x, 1)
    weights = (q @ k.transpose(-1, -2) / 4).softmax(-1)[:, :, 1:, 1:]  # 16 channels a head
    weights = weights / weights.sum(-1, keepdim=True)
    expected = attention_distance(weights, (4, 4)).mean(0)
    assert torch.allclose(found.distance[1], expected, atol=1e-5)
    assert torch.allclose(found.nmi[1], attention_nmi(weights).mean(0), atol=1e-5)
    assert backbone.training
