import math

import pytest
import torch

from comad.methods.parts.losses import map_kl, normalize, token_kl


def softmax(values, temperature):
    top = max(values)
    exps = [math.exp((v - top) / temperature) for v in values]
    return [e / sum(exps) for e in exps]


def kl(target, prediction, temperature):
    p, q = softmax(target, temperature), softmax(prediction, temperature)
    return sum(a * (math.log(a) - math.log(b)) for a, b in zip(p, q, strict=True))


def loop_tokens(target, student, temperature):
    rows = [
        kl(t.tolist(), s.tolist(), temperature)
        for t, s in zip(target.flatten(0, 1), student.flatten(0, 1), strict=True)
    ]
    return temperature**2 * sum(rows) / len(rows)


def loop_map(target, prediction, visible, axis, temperature):
    terms = []
    for t, p, seen in zip(target, prediction, visible, strict=True):
        t, p = t[seen], p[seen]
        if axis == 'spatial':
            t, p = t.T, p.T
        rows = [kl(a.tolist(), b.tolist(), temperature) for a, b in zip(t, p, strict=True)]
        terms.append(sum(rows) / len(rows))
    return temperature**2 * sum(terms) / len(terms)


@pytest.mark.parametrize('temperature', [1.0, 0.25, 3.0])
def test_token_kl_equals_the_loop(temperature):
    target, student = torch.randn(2, 3, 5), torch.randn(2, 3, 5)
    expected = loop_tokens(target.double(), student.double(), temperature)
    assert float(token_kl(target, student, temperature)) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize('axis', ['spatial', 'channel'])
@pytest.mark.parametrize('temperature', [1.0, 0.5])
def test_map_kl_equals_the_loop_with_uneven_visibility(axis, temperature):
    target, prediction = torch.randn(3, 7, 4), torch.randn(3, 7, 4)
    visible = torch.rand(3, 7) < 0.6
    visible[:, 0] = True
    expected = loop_map(target.double(), prediction.double(), visible, axis, temperature)
    loss = map_kl(target, prediction, visible, axis, temperature)
    assert float(loss) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize('axis', ['spatial', 'channel'])
def test_zero_at_the_target_and_unseen_positions_do_not_matter(axis):
    target = torch.randn(2, 6, 4)
    prediction = target.clone()
    visible = torch.tensor([[1, 1, 1, 0, 0, 1], [1, 0, 1, 1, 0, 0]]).bool()
    prediction[~visible] += 5
    prediction.requires_grad_()
    loss = map_kl(target, prediction, visible, axis)
    loss.backward()
    assert float(loss.detach()) == pytest.approx(0, abs=1e-6)
    assert prediction.grad.abs().max() < 1e-6
    assert float(token_kl(target, target)) == pytest.approx(0, abs=1e-6)


def test_gradient_is_finite_and_reaches_only_seen_positions_of_the_prediction():
    target = torch.randn(2, 6, 4)
    prediction = torch.randn(2, 6, 4, requires_grad=True)
    visible = torch.tensor([[1, 1, 0, 0, 0, 1], [1, 0, 1, 1, 0, 1]]).bool()
    map_kl(target, prediction, visible, 'spatial').backward()
    assert prediction.grad.isfinite().all()
    assert prediction.grad[~visible].abs().max() == 0 < prediction.grad[visible].abs().min()


def test_half_precision_input_is_computed_in_float32():
    target, student = torch.randn(2, 3, 64), torch.randn(2, 3, 64)
    low = token_kl(target.bfloat16(), student.bfloat16())
    exact = token_kl(target.bfloat16().double(), student.bfloat16().double())
    assert low.dtype == torch.float32
    assert float(low) == pytest.approx(float(exact), rel=1e-5)
    assert normalize(target.bfloat16()).dtype == torch.float32


def test_normalize_is_a_layernorm_without_affine():
    x = torch.randn(5, 9).double()
    expected = (x - x.mean(1, keepdim=True)) / (
        x.var(1, unbiased=False, keepdim=True) + 1e-6
    ).sqrt()
    assert torch.allclose(normalize(x), expected.float(), atol=1e-6)


def test_unknown_axis_is_named():
    with pytest.raises(ValueError, match='spatial, channel'):
        map_kl(torch.zeros(1, 2, 2), torch.zeros(1, 2, 2), torch.ones(1, 2).bool(), 'token')
