"""The losses against independent computations, in loops and in double precision."""

import math

import numpy as np
import pytest
import torch

from comad.distill.cc import correlation_loss
from comad.distill.crd import Contrast
from comad.distill.dist import dist_loss
from comad.distill.dkd import dkd_loss
from comad.distill.fbt import info_nce
from comad.distill.kd import kd_loss
from comad.distill.ofa import ofa_loss
from comad.distill.rkd import angles, distances
from comad.distill.schedule import epoch_rate

B, K, D = 6, 5, 7
GENERATOR = np.random.default_rng(0)
STUDENT, TEACHER = (GENERATOR.normal(0, 2, (B, K)) for _ in range(2))
OURS, THEIRS = (GENERATOR.normal(0, 1, (B, D)) for _ in range(2))
LABELS = np.array([0, 4, 2, 2, 1, 3])


def tensor(x):
    return torch.tensor(x, dtype=torch.long if x.dtype.kind == 'i' else torch.float32)


def softmax(z, temperature=1.0):
    e = np.exp(z / temperature)
    return e / e.sum(-1, keepdims=True)


@pytest.mark.parametrize(('eps', 'temperature'), [(1, 1), (1.5, 1), (1.5, 4), (2, 0.7)])
def test_ofa(eps, temperature):
    ours, theirs = softmax(STUDENT, temperature), softmax(TEACHER, temperature)
    total = 0.0
    for b in range(B):
        for k in range(K):
            own = 1.0 if k == LABELS[b] else 0.0
            total -= ((theirs[b, k] + own) ** eps - own) * math.log(ours[b, k])
    found = ofa_loss(tensor(STUDENT), tensor(TEACHER), tensor(LABELS), eps, temperature)
    assert float(found) == pytest.approx(total / B, rel=1e-5)


def test_ofa_is_kd_and_the_teachers_entropy_at_exponent_one():
    theirs = softmax(TEACHER)
    entropy = -(theirs * np.log(theirs)).sum(1).mean()
    student, teacher = tensor(STUDENT), tensor(TEACHER)
    difference = ofa_loss(student, teacher, tensor(LABELS)) - kd_loss(student, teacher)
    assert float(difference) == pytest.approx(entropy, rel=1e-5)


@pytest.mark.parametrize('temperature', [1, 4])
def test_kd(temperature):
    ours, theirs = softmax(STUDENT, temperature), softmax(TEACHER, temperature)
    wanted = temperature**2 * (theirs * np.log(theirs / ours)).sum() / B
    assert float(kd_loss(tensor(STUDENT), tensor(TEACHER), temperature)) == pytest.approx(
        wanted, rel=1e-5
    )


@pytest.mark.parametrize(('alpha', 'beta', 'temperature'), [(1, 2, 1), (0, 1, 1), (1, 0, 4)])
def test_dkd(alpha, beta, temperature):
    ours, theirs = softmax(STUDENT, temperature), softmax(TEACHER, temperature)
    total = 0.0
    for b in range(B):
        own = LABELS[b]
        p, q = theirs[b, own], ours[b, own]
        target = p * math.log(p / q) + (1 - p) * math.log((1 - p) / (1 - q))
        others = [k for k in range(K) if k != own]
        p, q = (x[b, others] / x[b, others].sum() for x in (theirs, ours))
        total += alpha * target + beta * (p * np.log(p / q)).sum()
    found = dkd_loss(tensor(STUDENT), tensor(TEACHER), tensor(LABELS), alpha, beta, temperature)
    assert float(found) == pytest.approx(temperature**2 * total / B, rel=1e-4)


def test_dkd_is_kd_where_the_parts_weigh_as_the_teacher_has_them():
    """KD = TCKD + (1 - p_target) NCKD, image by image (arXiv:2203.08679, equation 5)."""
    for b in range(B):
        one = [tensor(x[b : b + 1]) for x in (STUDENT, TEACHER)]
        rest = 1 - softmax(TEACHER)[b, LABELS[b]]
        found = dkd_loss(*one, tensor(LABELS[b : b + 1]), 1.0, rest)
        assert float(found) == pytest.approx(float(kd_loss(*one)), rel=1e-4)


@pytest.mark.parametrize(('beta', 'gamma', 'tau'), [(1, 1, 1), (2, 0.5, 4)])
def test_dist(beta, gamma, tau):
    ours, theirs = softmax(STUDENT, tau), softmax(TEACHER, tau)
    between = 1 - np.mean([np.corrcoef(ours[b], theirs[b])[0, 1] for b in range(B)])
    within = 1 - np.mean([np.corrcoef(ours[:, k], theirs[:, k])[0, 1] for k in range(K)])
    found = dist_loss(tensor(STUDENT), tensor(TEACHER), beta, gamma, tau)
    assert float(found) == pytest.approx(tau**2 * (beta * between + gamma * within), rel=1e-4)


def test_rkd_distances_and_angles():
    wanted = np.array([[np.linalg.norm(a - b) for b in OURS] for a in OURS])
    wanted /= wanted[wanted > 0].mean()
    assert np.allclose(distances(tensor(OURS)), wanted, atol=1e-5)
    found = angles(tensor(OURS))
    for i in range(B):
        for j in range(B):
            for k in range(B):
                first, second = OURS[j] - OURS[i], OURS[k] - OURS[i]
                norms = np.linalg.norm(first) * np.linalg.norm(second)
                cosine = first @ second / norms if norms else 0.0
                assert float(found[i, j, k]) == pytest.approx(cosine, abs=1e-5)


def test_cc():
    error = np.abs(OURS - THEIRS)
    wanted = np.mean([(error[i] * error[i + 1]).sum() for i in range(B - 1)])
    assert float(correlation_loss(tensor(OURS), tensor(THEIRS))) == pytest.approx(wanted, rel=1e-5)


def test_crds_first_steps():
    """The loss, the constants of the first step, and the memories behind it; twice."""
    torch.manual_seed(0)
    count, negatives = 20, 4
    contrast = Contrast(count, D)
    memories = [contrast.student_memory.double().numpy(), contrast.teacher_memory.double().numpy()]
    memories = [memory.copy() for memory in memories]
    bound = 1 / math.sqrt(D / 3)
    assert all(0.8 * bound < np.abs(memory).max() <= bound for memory in memories)
    constants = [None, None]
    for seed in (1, 2):
        generator = np.random.default_rng(seed)
        index = generator.permutation(count)[:B]
        chosen = generator.integers(0, count, (B, negatives))
        unit = [x / np.linalg.norm(x, axis=1, keepdims=True) for x in (OURS + seed, THEIRS)]
        total, noise = 0.0, negatives / count
        for which in (0, 1):
            other = memories[1 - which]
            score = np.array(
                [
                    [math.exp(other[n] @ unit[which][b] / 0.07) for n in (index[b], *chosen[b])]
                    for b in range(B)
                ]
            )
            if constants[which] is None:
                constants[which] = score.mean() * count
            score /= constants[which]
            total -= np.log(score[:, 0] / (score[:, 0] + noise + 1e-7)).sum() / B
            total -= np.log(noise / (score[:, 1:] + noise + 1e-7)).sum() / B
        features = [tensor(x).requires_grad_() for x in unit]
        found = contrast(*features, tensor(index), tensor(chosen))
        assert found.item() == pytest.approx(total, rel=1e-3)
        found.backward()
        assert all(x.grad.abs().sum() > 0 for x in features)
        for memory, x in zip(memories, unit, strict=True):
            mixed = 0.5 * memory[index] + 0.5 * x
            memory[index] = mixed / np.linalg.norm(mixed, axis=1, keepdims=True)
        assert np.allclose(contrast.student_memory, memories[0], atol=1e-5)
        assert np.allclose(contrast.teacher_memory, memories[1], atol=1e-5)


def test_info_nce():
    first, second = (x / np.linalg.norm(x, axis=1, keepdims=True) for x in (OURS, THEIRS))
    scores = 5.0 * first @ second.T
    rows = -np.mean([np.log(softmax(scores[b])[b]) for b in range(B)])
    columns = -np.mean([np.log(softmax(scores[:, b])[b]) for b in range(B)])
    found = info_nce(tensor(first), tensor(second), torch.tensor(5.0))
    assert float(found) == pytest.approx((rows + columns) / 2, rel=1e-5)


def test_rates_per_epoch_of_the_four_recipes():
    """Against timm's own schedulers, which OFA-KD's training code steps once per epoch."""
    from timm.scheduler import CosineLRScheduler, StepLRScheduler

    parameter = torch.nn.Parameter(torch.zeros(1))
    recipes = [
        (0.05, 300, 3, 1e-4, 1e-3, None),
        (5e-4, 300, 20, 5e-7, 1e-5, None),
        (5e-4, 300, 20, 5e-7, 1e-6, None),
        (0.1, 100, 3, 1e-4, 0.0, 30),
    ]
    for rate, epochs, warm_up, start, floor, every in recipes:
        optimizer = torch.optim.SGD([parameter], lr=rate)
        common = dict(warmup_t=warm_up, warmup_lr_init=start)
        if every:
            # Later versions of timm can begin to count behind the warm-up.
            theirs = StepLRScheduler(optimizer, every, 0.1, warmup_prefix=False, **common)
        else:
            theirs = CosineLRScheduler(optimizer, epochs, floor, **common)
        for epoch in range(epochs):
            theirs.step(epoch)
            wanted = optimizer.param_groups[0]['lr']
            assert epoch_rate(epoch, rate, epochs, warm_up, start, floor, every) == pytest.approx(
                wanted, rel=1e-9
            )
    # In words: the cosine is not shifted by the warm-up, and steps fall at 30, 60 and 90.
    assert epoch_rate(3, 0.05, 300, 3, 1e-4, 1e-3) == pytest.approx(0.0499879, rel=1e-5)
    assert [epoch_rate(e, 0.1, 100, 3, 1e-4, step_every=30) for e in (29, 30, 60, 90)] == (
        pytest.approx([0.1, 0.01, 0.001, 0.0001])
    )
