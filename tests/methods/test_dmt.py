"""DMT against an independent float64 formula, and what it trains and leaves behind."""

import math

import pytest
import torch

from backbones import load_student, save_student
from comad.methods.parts.statistics import TokenMoments
from tests.precision import check_bfloat16

NAMES = ('loss_patch', 'loss_cls')


@pytest.fixture
def whole(teachers):
    """The three teachers without masks."""
    return [{k: v for k, v in teacher.items() if k != 'mask_ratio'} for teacher in teachers]


@pytest.fixture
def build_dmt(build, whole, images):
    """A DMT in training mode, its alignment or standards fitted where it has any."""

    def make(backbone=None, **options):
        model = build('DMT', backbone, **{'teachers': whole, **options})
        if model.alignment is not None or model.standards:
            model.fit(iter([images.repeat(3, 1, 1, 1) + 0.3 * torch.randn(18, 3, 32, 32)]))
        return model.train()

    return make


def total(losses):
    return sum(value for name, value in losses.items() if 'loss' in name)


def layer_norm(vector):
    mean = sum(vector) / len(vector)
    variance = sum((v - mean) ** 2 for v in vector) / len(vector)
    return [(v - mean) / math.sqrt(variance + 1e-6) for v in vector]


def smooth_l1(prediction, target, beta):
    """Mean over the entries of two lists of vectors, one by one."""
    terms = []
    for p_row, t_row in zip(prediction, target, strict=True):
        for p, t in zip(p_row, t_row, strict=True):
            d = abs(p - t)
            terms.append(d * d / (2 * beta) if d < beta else d - beta / 2)
    return sum(terms) / len(terms)


def linear(layer, rows):
    return (rows.double() @ layer.weight.double().T + layer.bias.double()).tolist()


def loop_losses(predicted, wanted, beta, standards=None):
    """(patch, cls) for lists over targets of (B, 1 + N, D) lists; wanted is not yet normalised.

    ``standards``: per target (mean, deviation) lists of patches and of the class token.
    """
    patch, cls = [], []
    for k, (ours, theirs) in enumerate(zip(predicted, wanted, strict=True)):
        for p, t in zip(ours, theirs, strict=True):
            t = [layer_norm(row) for row in t]
            if standards:
                for i, row in enumerate(t):
                    mean, deviation = standards[k][0 if i else 1]
                    t[i] = [(v - m) / d for v, m, d in zip(row, mean, deviation, strict=True)]
            patch.append(smooth_l1(p[1:], t[1:], beta))
            cls.append(smooth_l1(p[:1], t[:1], beta))
    return sum(patch) / len(patch), sum(cls) / len(cls)


@torch.no_grad()
@pytest.mark.parametrize('standardize', [True, False])
def test_losses_of_one_head_per_teacher_equal_a_float64_loop(build_dmt, images, standardize):
    model = build_dmt(beta=0.7, cls_weight=2.0, standardize=standardize)
    student = model.backbone.tokens(images)
    predicted = [linear(of_teacher[0], student) for of_teacher in model.projectors]
    wanted = [network.tokens(images).double().tolist() for network in model.teacher_networks]
    standards = [
        [(part.mean.tolist(), part.deviation.tolist()) for part in of_teacher[0]]
        for of_teacher in model.standards
    ]
    assert len(standards) == (3 if standardize else 0)
    patch, cls = loop_losses(predicted, wanted, 0.7, standards)
    losses = model(images)
    assert float(losses['loss_patch']) == pytest.approx(patch, rel=1e-5)
    assert float(losses['loss_cls']) == pytest.approx(2 * cls, rel=1e-5)


@torch.no_grad()
def test_losses_of_the_mean_equal_a_float64_loop(build_dmt, images):
    model = build_dmt(heads='mean', beta=1.5)
    predicted = linear(model.projectors[0][0], model.backbone.tokens(images))
    wanted = []
    tokens = [network.tokens(images).double() for network in model.teacher_networks]
    for image in range(len(images)):
        rows = []
        for token in range(17):
            maps = model.alignment if token else model.cls_alignment
            aligned = [
                layer_norm(
                    (
                        (x[image, token] - getattr(maps, f'mean_{k}').double())
                        @ getattr(maps, f'map_{k}').double()
                    ).tolist()
                )
                for k, x in enumerate(tokens)
            ]
            rows.append([sum(values) / 3 for values in zip(*aligned, strict=True)])
        wanted.append(rows)
    patch, cls = loop_losses([predicted], [wanted], 1.5)
    losses = model(images)
    assert float(losses['loss_patch']) == pytest.approx(patch, rel=1e-4)
    assert float(losses['loss_cls']) == pytest.approx(cls, rel=1e-4)
    assert set(losses) == {*NAMES, 'cosine_mean'}


@torch.no_grad()
def test_pairs_of_blocks_equal_a_float64_loop(build_dmt, images):
    model = build_dmt(layers=[(2, 2), (1, 2)], standardize=False)
    raw = model.backbone.tokens(images, layers=[0, 1])
    student = [
        torch.tensor([[layer_norm(t) for t in image] for image in raw[0].double().tolist()]),
        model.backbone.norm(raw[1]),
    ]
    patch, cls = [], []
    for projectors, network in zip(model.projectors, model.teacher_networks, strict=True):
        wanted = network.tokens(images, layers=[1])[0].double().tolist()
        for project, x in zip(projectors, student, strict=True):
            terms = loop_losses([linear(project, x)], [wanted], 2.0)
            patch.append(terms[0])
            cls.append(terms[1])
    losses = model(images)
    assert float(losses['loss_patch']) == pytest.approx(sum(patch) / 6, rel=1e-5)
    assert float(losses['loss_cls']) == pytest.approx(sum(cls) / 6, rel=1e-5)


@pytest.mark.parametrize(
    'options',
    [
        dict(),
        dict(projector='mlp', hidden_dim=16, positions='learned'),
        dict(layers=[(1, 1), (2, 2)]),
        dict(heads='mean'),
        dict(heads='mean', cls_weight=0.0),
        dict(heads='mean', align='reconstruct'),
        dict(cls_weight=0.0),
        dict(standardize=False),
    ],
    ids=str,
)
def test_a_step_trains_student_and_projectors_and_nothing_else(build_dmt, images, options):
    model = build_dmt(**options)
    before = [network.digest() for network in model.teacher_networks]
    losses = model(images)
    total(losses).backward()
    fixed = {'backbone.pos_embed'} if options.get('positions') != 'learned' else set()
    for name, parameter in model.named_parameters():
        frozen = name in fixed or name.startswith('teacher_networks')
        assert (parameter.grad is None) == frozen, name
    assert [network.digest() for network in model.teacher_networks] == before
    assert all(not value.requires_grad for name, value in losses.items() if 'loss' not in name)
    assert ('loss_cls' in losses) == (options.get('cls_weight') != 0.0)
    assert ('loss_align' in losses) == (options.get('align') == 'reconstruct')


def test_the_exported_student_has_no_projector(build_dmt, images, tmp_path):
    model = build_dmt(projector='mlp')
    card = dict(name='dmt_tiny', method='dmt', track='full', seed=0)
    student = load_student(save_student(tmp_path, model.exported, card))
    assert set(student.state_dict()) == set(model.backbone.state_dict())
    assert not any('projector' in name for name in student.state_dict())
    model.eval()
    assert torch.equal(student.eval().tokens(images), model.backbone.tokens(images))
    assert not any(name.startswith('teacher_networks') for name in model.state_dict())


def test_identical_teachers_count_as_one(build_dmt, whole, images):
    one, three = (build_dmt(teachers=[whole[0]] * count) for count in (1, 3))
    three.backbone.load_state_dict(one.backbone.state_dict())
    for projectors in three.projectors:
        projectors.load_state_dict(one.projectors[0].state_dict())
    one.fit(iter([images]))
    three.fit(iter([images]))
    with torch.no_grad():
        single, several = one(images), three(images)
    for name in NAMES:
        assert float(several[name]) == pytest.approx(float(single[name]), rel=1e-6)
    assert {'cosine_mae1', 'cosine_mae2', 'cosine_mae3'} <= set(several)
    mean = build_dmt(teachers=[whole[0]] * 3, heads='mean')
    with torch.no_grad():
        tokens = mean.teacher_tokens(images)
        aligned = mean.alignment([x[:, 1:] for (x,) in tokens])
        assert torch.allclose(mean.targets(tokens)[0][0][:, 1:], aligned[0], atol=2e-3)


def test_a_perfect_projection_has_no_loss(build_dmt, images, monkeypatch):
    model = build_dmt()
    targets = model.targets(model.teacher_tokens(images))
    monkeypatch.setattr(model.backbone, 'tokens', lambda given: torch.zeros(6, 17, 32))
    for projectors, (target,) in zip(model.projectors, targets, strict=True):
        monkeypatch.setattr(projectors[0], 'forward', lambda x, target=target: target)
    losses = model(images)
    assert [float(losses[name]) for name in NAMES] == [0.0, 0.0]
    assert all(float(losses[f'cosine_{n}']) > 0.999 for n in ('mae', 'mocov3', 'ibot'))


def test_learning_reduces_the_loss(build_dmt, images):
    model = build_dmt(positions='learned')
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=3e-3)
    history = []
    for _ in range(30):
        losses = model(images)
        optimizer.zero_grad()
        total(losses).backward()
        optimizer.step()
        history.append(float(losses['loss_patch'].detach()))
    assert history[-1] < 0.6 * history[0]


def test_the_alignment_is_saved_and_needed(build_dmt, build, whole, images):
    state = build_dmt(heads='mean').state_dict()
    fresh = build('DMT', teachers=whole, heads='mean')
    with pytest.raises(RuntimeError, match='not fitted'):
        fresh(images)
    fresh.load_state_dict(state)
    assert total(fresh(images)).isfinite()


def test_standardised_targets_have_mean_0_and_deviation_1(build_dmt, images):
    model = build_dmt(layers=[(1, 1), (2, 2)])
    model.fit(iter([images[:4], images[4:]]))
    for of_teacher in model.targets(model.teacher_tokens(images)):
        for target in of_teacher:
            for part in (target[:, 1:].flatten(0, 1), target[:, 0]):
                assert float(part.mean(0).abs().max()) < 1e-3
                spread = part.std(0, unbiased=False)
                assert float(spread.max()) < 1.001 and float(spread.median()) > 0.999


def test_targets_are_not_used_before_they_are_fitted(build, whole, images):
    model = build('DMT', teachers=whole)
    with pytest.raises(RuntimeError, match='targets are not fitted'):
        model(images)
    with pytest.raises(RuntimeError, match='no tokens were given'):
        model.fit(iter([]))


def test_fitting_uses_all_patches_of_whole_images(build_dmt, images, monkeypatch):
    seen = []
    original = TokenMoments.update
    monkeypatch.setattr(
        TokenMoments, 'update', lambda self, *given: seen.append(given[1]) or original(self, *given)
    )
    build_dmt(heads='mean')
    assert [tuple(x.shape) for x in seen] == [(18, 3, 16), (18, 3, 1)]
    assert all(x.all() for x in seen)


@pytest.mark.parametrize('options', [dict(), dict(heads='mean')], ids=str)
def test_bfloat16_rounds_in_the_networks_alone(build_dmt, images, options):
    model = build_dmt(**options)
    projectors = [f'projectors.{k}.0.forward' for k in range(len(model.projectors))]
    check_bfloat16(model, images, ('teacher_tokens', 'student_tokens', *projectors))


@pytest.mark.parametrize(
    ('options', 'named'),
    [
        (dict(heads='sum'), "heads='sum': expected one of per_teacher, mean"),
        (dict(projector='conv'), "projector='conv': expected one of linear, mlp"),
        (dict(align='none'), "align='none': expected one of procrustes"),
        (dict(positions='rope'), "positions='rope'"),
        (dict(beta=0.0), r'beta=0\.0'),
        (dict(cls_weight=-1.0), r'cls_weight=-1\.0'),
        (dict(teachers=[]), 'teachers is empty'),
        (
            dict(layers=[(1, 1)]),
            r'layers=\[\(1, 1\)\]: expected each student block once and its last, 2',
        ),
        (dict(layers=[(2, 1), (2, 2)]), 'expected each student block once'),
        (dict(layers=[(2, 5)]), r'from \(1, 1\) to \(2, 2\)'),
        (dict(heads='mean', layers=[(2, 2)]), "heads='mean' with layers="),
    ],
    ids=str,
)
def test_bad_options_are_answered_in_one_line(build_dmt, options, named):
    with pytest.raises(ValueError, match=named) as caught:
        build_dmt(**options)
    assert '\n' not in str(caught.value)
