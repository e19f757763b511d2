import math

import pytest
import torch

from backbones import load_student, save_student
from comad.methods.base import seeded
from comad.methods.hybrid_distill import default_drops, middle_pairs
from comad.methods.parts.losses import normalize
from comad.methods.parts.relations import relation_kl, select_tokens
from tests.methods.small_run import run, small_config
from tests.precision import check_bfloat16


@pytest.fixture
def hybrid_teachers(teachers):
    by_family = {t['family']: {k: v for k, v in t.items() if k != 'mask_ratio'} for t in teachers}
    return [by_family['mocov3'] | dict(role='features'), by_family['mae'] | dict(role='relations')]


@pytest.fixture
def build_hybrid(build, hybrid_teachers):
    def make(backbone=None, **options):
        return build('HybridDistill', backbone, **{'teachers': hybrid_teachers, **options}).train()

    return make


def test_a_step_trains_student_and_projection_and_nothing_else(build_hybrid, images):
    model = build_hybrid()
    digests = [t.digest() for t in (model.feature_teacher, model.relation_teacher)]
    losses = model(images)
    assert set(losses) == {'loss_feature', 'loss_relation'}
    sum(losses.values()).backward()
    for name, parameter in model.named_parameters():
        fixed = 'teacher' in name or name == 'backbone.pos_embed'
        assert (parameter.grad is None) == fixed, name
    assert [t.digest() for t in (model.feature_teacher, model.relation_teacher)] == digests
    assert not any('teacher' in name for name in model.state_dict())
    assert len(model.teacher_cards) == 2


def test_default_blocks_and_drops():
    assert middle_pairs(12, 12) == [(6, 6), (9, 9)]
    assert middle_pairs(12, 24) == [(6, 12), (9, 18)]
    assert middle_pairs(4, 4) == [(2, 2), (3, 3)]
    assert middle_pairs(2, 2) == [(2, 2)]
    assert default_drops(12) == [(4, 0.25), (8, 0.25)]
    assert default_drops(4) == [(2, 0.25), (3, 0.25)]


def test_the_student_loses_the_scheduled_number_of_patches(build_hybrid, images):
    options = dict(relation_blocks=[(2, 2), (4, 2)], drops=[(1, 0.25), (3, 0.5)])
    seen = build_hybrid(dict(depth=4), **options).run_student(images)
    assert seen.tokens.shape == (6, 7, 32) and seen.keep.shape == (6, 6)
    assert {block: keep.shape[1] for block, (keep, _) in seen.relations.items()} == {2: 12, 4: 6}
    assert all(q.shape == (6, 2, 1 + k.shape[1], 16) for k, (q, _, _) in seen.relations.values())
    for b in range(6):
        kept = set(seen.keep[b].tolist())
        assert len(kept) == 6 and kept <= set(seen.relations[2][0][b].tolist())


def test_without_drops_it_is_a_plain_pass(build_hybrid, images):
    model = build_hybrid(drops=[]).eval()
    seen = model.run_student(images)
    assert torch.allclose(seen.tokens, model.backbone.tokens(images), atol=1e-5)
    assert seen.keep.tolist() == [list(range(16))] * 6


def test_tokens_stay_with_their_patches(build_hybrid, images):
    """Without attention a token depends on its patch alone, so order and positions show."""
    model = build_hybrid(drops=[(1, 0.5)]).eval()
    for block in model.backbone.blocks:
        torch.nn.init.zeros_(block.attn.proj.weight)
    seen, whole = model.run_student(images), model.backbone.tokens(images)
    assert torch.allclose(seen.tokens, select_tokens(whole, seen.keep), atol=1e-5)


@pytest.mark.parametrize('feature_cls', [True, False])
@torch.no_grad()
def test_losses_are_those_of_an_independent_formula(build_hybrid, images, feature_cls):
    model = build_hybrid(alpha=0.5, beta=3.0, smooth_l1_beta=0.7, feature_cls=feature_cls).eval()
    with seeded(1):
        losses = model(images)
    with seeded(1):
        seen = model.run_student(images)
    target = normalize(model.feature_teacher.tokens(images))
    predicted, terms = model.projection(seen.tokens), []
    for b in range(6):
        rows = [0] + [1 + int(i) for i in seen.keep[b]]
        for place in range(0 if feature_cls else 1, len(rows)):
            error = (predicted[b, place] - target[b, rows[place]]).double().abs()
            terms += [0.5 * e * e / 0.7 if e < 0.7 else e - 0.35 for e in error.tolist()]
    assert float(losses['loss_feature']) == pytest.approx(0.5 * sum(terms) / len(terms), rel=1e-5)

    # Block 2 of the teacher on the output of its first, whole images.
    teacher, (keep, qkv) = model.relation_teacher, seen.relations[2]
    first = teacher.blocks[0](teacher.embed(images))
    cut = tuple(select_tokens(x, keep) for x in teacher.qkv(first, 1))
    expected = 3.0 * relation_kl(cut, qkv, 2)
    assert float(losses['loss_relation']) == pytest.approx(float(expected), rel=1e-5)


@torch.no_grad()
def test_the_relation_part_is_zero_for_a_student_that_is_the_teacher(build_hybrid, images):
    model = build_hybrid(drops=[]).eval()
    assert float(model(images)['loss_relation']) > 1e-4
    model.backbone.load_state_dict(dict(model.relation_teacher.named_parameters()))
    assert float(model(images)['loss_relation']) == pytest.approx(0, abs=1e-6)


def test_the_exported_student_is_complete_and_bare(build_hybrid, images, tmp_path):
    model = build_hybrid().eval()
    card = dict(name='hybrid_distill_tiny', method='hybrid_distill', arch='tiny')
    save_student(tmp_path, model.exported, card)
    again = load_student(tmp_path / 'student.safetensors')
    assert set(again.state_dict()) == set(build_hybrid().backbone.state_dict())
    assert torch.equal(again.eval().tokens(images), model.backbone.tokens(images))


def test_attention_figures_come_at_their_interval_and_change_nothing(build_hybrid, images):
    model = build_hybrid(dict(depth=4), diagnostics_every=3, diagnostics_images=2)
    found = [model(images) for _ in range(3)]
    named = {f'attention_distance_b{b}_h{h}' for b in (3, 4) for h in (1, 2)}
    named |= {'attention_nmi_b3', 'attention_nmi_b4'}
    assert [set(losses) - {'loss_feature', 'loss_relation'} for losses in found] == [
        set(),
        set(),
        named,
    ]
    # Of 4 x 4 patches no two are further apart than 3 sqrt(2).
    assert all(0 < float(found[2][n]) < 3 * math.sqrt(2) for n in named if 'distance' in n)
    assert all(not found[2][name].requires_grad for name in named)


def test_bfloat16_rounds_in_the_networks_alone(build_hybrid, images, monkeypatch):
    # Which patches go is a choice: rounding would not shift it a little but turn it over.
    monkeypatch.setattr(
        'comad.methods.hybrid_distill.draw_survivors',
        lambda score, count, ratio: torch.arange(count, score.shape[1]).expand(len(score), -1),
    )
    networks = ('run_student', 'feature_teacher.tokens', 'relation_targets', 'projection.forward')
    check_bfloat16(build_hybrid(), images, networks)


def test_a_run_leaves_a_figure_of_the_attention(tmp_path, hybrid_teachers):
    model = dict(type='HybridDistill', teachers=hybrid_teachers, diagnostics_every=4)
    figure = dict(type='PretrainFigureHook', images=2, points=6, resize=32)
    runner = run(small_config(tmp_path, 'run', model, hooks=dict(figure=figure)))
    assert (tmp_path / 'run/attention.png').stat().st_size > 10_000
    assert not (tmp_path / 'run/consensus.png').exists()
    hook = next(h for h in runner.hooks if type(h).__name__ == 'PretrainFigureHook')
    assert {'attention_distance_b2_h1', 'attention_nmi_b2'} <= set(hook.curves)


@pytest.mark.parametrize(
    ('options', 'named'),
    [
        (dict(smooth_l1_beta=-1), 'smooth_l1_beta=-1: expected at least 0'),
        (dict(pool_ratio=0.5), 'pool_ratio=0.5: expected at least 1'),
        (dict(positions='none'), "positions='none': expected one of sincos, learned"),
        (dict(relation_blocks=[(1, 2)]), r'relation_blocks=.* from \(2, 2\) to \(2, 2\)'),
        (dict(relation_blocks=[]), 'relation_blocks=.*expected different pairs'),
        (dict(relation_heads=5), 'relation_heads=5: expected a divisor of the width 32'),
        (dict(drops=[(2, 0.5)]), 'block 2; expected rising blocks from 1 to 1'),
        (dict(diagnostics_every=0), 'diagnostics_every=0'),
    ],
)
def test_bad_options_are_named(build_hybrid, options, named):
    with pytest.raises(ValueError, match=named):
        build_hybrid(**options)


def test_wrong_roles_are_named(build_hybrid, hybrid_teachers):
    for teachers in (hybrid_teachers[:1], [hybrid_teachers[0]] * 2, [{'family': 'mae'}]):
        with pytest.raises(ValueError, match='one teacher each with role=features and role=rel'):
            build_hybrid(teachers=teachers)
    with pytest.raises(ValueError, match='grid of'):
        build_hybrid(dict(img_size=64), teachers=[{**t, 'grid': 4} for t in hybrid_teachers])
