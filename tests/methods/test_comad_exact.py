"""CoMAD's whole loss against an independent float64 formula, other precision, other devices."""

import math

import numpy as np
import pytest
import torch

from comad.methods.parts.masking import draw_masks
from tests.methods.two_processes import step
from tests.precision import check_bfloat16
from tests.programs import run_group

N = 16


def softmax(values):
    top = max(values)
    exps = [math.exp(v - top) for v in values]
    return [e / sum(exps) for e in exps]


def kl(target, prediction, temperature):
    """KL between two lists of logits, terms added one by one."""
    p = softmax([v / temperature for v in target])
    q = softmax([v / temperature for v in prediction])
    return sum(a * (math.log(a) - math.log(b)) for a, b in zip(p, q, strict=True) if a > 0)


def layer_norm(vector):
    mean = sum(vector) / len(vector)
    variance = sum((v - mean) ** 2 for v in vector) / len(vector)
    return [(v - mean) / math.sqrt(variance + 1e-6) for v in vector]


def cosine(x, y):
    lengths = math.sqrt(sum(v * v for v in x)) * math.sqrt(sum(v * v for v in y))
    return sum(a * b for a, b in zip(x, y, strict=True)) / lengths


def consensus(tokens, query, gate, balance, tau):
    """LN of the weighted sum of the tokens {teacher: vector} that see one position."""
    score = {}
    for k, a in tokens.items():
        others = [cosine(a, b) for j, b in tokens.items() if j != k]
        beta = sum(others) / len(others) if others else 0.0
        alpha = cosine(a, query)
        score[k] = {
            'sum': balance * alpha + (1 - balance) * beta,
            'affinity_only': alpha,
            'agreement_only': beta,
            'uniform': 0.0,
        }[gate]
    weights = dict(zip(score, softmax([s / tau for s in score.values()]), strict=True))
    width = len(query)
    return layer_norm([sum(weights[k] * tokens[k][c] for k in tokens) for c in range(width)])


def adapted(alignment, k, token):
    mean = getattr(alignment, f'mean_{k}').double().numpy()
    matrix = getattr(alignment, f'map_{k}').double().numpy()
    return layer_norm(((np.asarray(token) - mean) @ matrix).tolist())


def loop_losses(model, images, masks, gate, balance, tau, axis, T, map_weight, cls_weight):
    """The formula of docs/methods.md, image by image and position by position."""
    teachers = [x.double().tolist() for x in model.teacher_tokens(images, masks)]
    student_tokens = model.backbone.tokens(images, masks.student)
    rebuilt = model.decoder(student_tokens, masks.student).double().tolist()
    students = student_tokens.double().tolist()
    token_terms, map_terms, cls_terms = [], [], []
    for b in range(len(images)):
        student = {
            int(i): layer_norm(students[b][1 + n]) for n, i in enumerate(masks.student[b].tolist())
        }
        at = [{int(i): 1 + n for n, i in enumerate(keep[b].tolist())} for keep in masks.teachers]
        target, found = {}, {}
        for i in range(N):
            seeing = {
                k: adapted(model.alignment, k, teachers[k][b][place[i]])
                for k, place in enumerate(at)
                if i in place
            }
            if seeing:
                found[i] = layer_norm(rebuilt[b][i])
                query = student.get(i, found[i])
                target[i] = consensus(seeing, query, gate, balance, tau)
        token_terms += [kl(target[i], student[i], T) for i in student]
        rows = list(target.values()), [found[i] for i in target]
        if axis == 'spatial':
            rows = [list(zip(*side, strict=True)) for side in rows]
        terms = [kl(t, p, T) for t, p in zip(*rows, strict=True)]
        map_terms.append(sum(terms) / len(terms))
        if cls_weight:
            query = layer_norm(students[b][0])
            every = {k: adapted(model.cls_alignment, k, teachers[k][b][0]) for k in range(len(at))}
            cls_terms.append(kl(consensus(every, query, gate, balance, tau), query, T))
    mean = {'loss_token': token_terms, 'loss_map': map_terms, 'loss_cls': cls_terms}
    weights = {'loss_token': 1.0, 'loss_map': map_weight, 'loss_cls': cls_weight}
    return {n: weights[n] * T**2 * sum(v) / len(v) for n, v in mean.items() if v}


CASES = [
    dict(gate='sum', masks='chain', map_axis='spatial', temperature=1.0, cls_weight=0.0),
    dict(gate='sum', masks='student_subset', map_axis='channel', temperature=0.5, cls_weight=1.0),
    dict(gate='affinity_only', masks='chain', map_axis='channel', temperature=2.0, cls_weight=0.0),
    dict(gate='agreement_only', masks='student_subset', map_axis='spatial', temperature=1.0),
    dict(gate='uniform', masks='chain', map_axis='spatial', temperature=3.0, cls_weight=0.3),
    dict(gate='sum', balance=0.8, tau=0.02, map_weight=0.25, align='pca', whiten=False),
    dict(gate='sum', balance=0.1, tau=1.0, align='orthogonal'),
]


@pytest.mark.parametrize('options', CASES, ids=lambda case: '-'.join(map(str, case.values())))
@torch.no_grad()
def test_loss_equals_a_float64_loop(build_comad, images, monkeypatch, options):
    model, images = build_comad(**options).eval(), images[:3]
    masks = draw_masks(model.masks, 3, N, 0.75, model.teacher_ratios)
    monkeypatch.setattr(model, 'draw_masks', lambda given: masks)
    found = model(images)
    expected = loop_losses(
        model,
        images,
        masks,
        options['gate'],
        options.get('balance', 0.5),
        options.get('tau', 0.1),
        options.get('map_axis', 'spatial'),
        options.get('temperature', 1.0),
        options.get('map_weight', 1.0),
        options.get('cls_weight', 0.0),
    )
    assert {name for name in found if 'loss' in name} == set(expected)
    for name, value in expected.items():
        assert float(found[name]) == pytest.approx(value, rel=2e-4, abs=1e-6), name


@torch.no_grad()
def test_loss_is_zero_where_student_and_map_equal_the_target(build_comad, images, monkeypatch):
    model = build_comad(gate='uniform').eval()
    masks = model.draw_masks(images)
    monkeypatch.setattr(model, 'draw_masks', lambda given: masks)
    target = model.consensus(images, masks).target
    index = masks.student.unsqueeze(-1).expand(-1, -1, target.shape[-1])
    tokens = torch.cat([target[:, :1], target.gather(1, index)], dim=1)
    monkeypatch.setattr(model.backbone, 'tokens', lambda *given: tokens)
    monkeypatch.setattr(model.decoder, 'forward', lambda *given: target)
    losses = model(images)
    assert float(losses['loss_token']) == pytest.approx(0, abs=1e-6)
    assert float(losses['loss_map']) == pytest.approx(0, abs=1e-6)


def test_no_gradient_reaches_teachers_targets_or_gate(build_comad, images):
    model = build_comad()
    found = model.consensus(images, model.draw_masks(images))
    assert not any(x.requires_grad for x in (*found.teacher_tokens, *found.gate, found.target))
    assert found.student.requires_grad and found.rebuilt.requires_grad


# All else, targets and losses, is in float32.
NETWORKS = ('teacher_tokens', 'backbone.tokens', 'decoder.forward')


@pytest.mark.parametrize('seed', [0, 1, 2])
def test_bfloat16_rounds_in_the_networks_alone(build_comad, images, seed):
    torch.manual_seed(seed)
    check_bfloat16(build_comad(cls_weight=1.0), images, NETWORKS)


OPTIONS = [
    dict(),
    dict(align='reconstruct', cls_weight=1.0, gate='uniform'),
    dict(align='joint', masks='student_subset', map_axis='channel'),
    dict(map_weight=0.0, align='pca'),
]


def test_two_processes_find_the_losses_and_gradients_of_one(
    build_comad, teachers, images, tmp_path
):
    cases = []
    for options in OPTIONS:
        model = build_comad(**options)
        masks = model.draw_masks(images)
        config = dict(
            type='CoMAD',
            backbone=dict(type='MaskedViT', arch='sample_tiny', img_size=32, embed_dim=32, depth=2),
            teachers=teachers,
            decoder=dict(arch='sample_tiny'),
            **options,
        )
        cases.append(
            dict(
                config=config,
                state=model.state_dict(),
                images=images,
                student=masks.student,
                teachers=list(masks.teachers),
            )
        )
    torch.save(cases, tmp_path / 'given.pt')
    run_group(tmp_path / 'log', 2, 'tests.methods.two_processes', tmp_path, module=True)
    for case, found in zip(cases, torch.load(tmp_path / 'found.pt'), strict=True):
        alone = step(case)
        assert set(found['losses']) == set(alone['losses'])
        for name, value in alone['losses'].items():
            assert torch.allclose(found['losses'][name], value, rtol=1e-5, atol=1e-7), name
        assert set(found['gradients']) == set(alone['gradients'])
        for name, gradient in alone['gradients'].items():
            scale = gradient.abs().max().clamp(min=1e-3)
            assert (found['gradients'][name] - gradient).abs().max() < 2e-5 * scale, name
