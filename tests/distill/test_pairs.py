"""Every pair of families, in every method: a step, an untouched teacher, shared parts."""

import itertools

import pytest
import torch
from mmengine.optim import build_optim_wrapper

from backbones.frozen import Frozen
from tests.distill.networks import FAMILIES, METHODS, batch, build, step

PAIRS = list(itertools.product(FAMILIES, FAMILIES))


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp('teachers')


def optimizer_of(model):
    return build_optim_wrapper(
        model,
        dict(
            type='OptimWrapper',
            optimizer=dict(type='SGD', lr=0.01, weight_decay=0.1),
            paramwise_cfg=dict(flat_decay_mult=0.0),
        ),
    ).optimizer


@pytest.mark.parametrize(('teacher', 'student'), PAIRS)
def test_fbt_takes_a_step_from_any_to_any(teacher, student, folder):
    model = build('FBT', student, teacher, folder)
    optimizer = optimizer_of(model)
    held = [p for group in optimizer.param_groups for p in group['params']]
    assert len(held) == len({id(p) for p in held})
    # The student and what is new: both maps, the module between and a temperature, nothing twice.
    trained = [p for p in model.parameters() if p.requires_grad]
    assert {id(p) for p in held} == {id(p) for p in trained}
    assert {id(p) for p in model.backbone.parameters()} < {id(p) for p in held}
    before = {k: v.clone() for k, v in model.backbone.state_dict().items()}
    digest, buffers = model.teacher.digest(), dict(model.teacher.named_buffers())
    kept = {k: v.clone() for k, v in buffers.items()}
    first = step(model, optimizer)
    assert set(first) == {
        'loss_label',
        *(
            f'loss_{pair}_{term}'
            for pair in ('teacher_student', 'teacher_fusion', 'fusion_student')
            for term in ('feature', 'logit')
        ),
    }
    assert all(torch.isfinite(torch.tensor(value)) for value in first.values())
    assert all(p.grad is not None for p in held)
    assert any(not torch.equal(before[k], v) for k, v in model.backbone.state_dict().items())
    assert model.teacher.digest() == digest and model.teacher.unchanged()
    assert all(torch.equal(kept[k], v) for k, v in buffers.items())
    assert all(p.grad is None for p in model.teacher.parameters())
    assert not model.teacher.training and model.backbone.training
    assert step(model)['loss_label'] != first['loss_label']


@pytest.mark.parametrize(('teacher', 'student'), PAIRS)
def test_the_fusion_is_made_of_both_networks_own_modules(teacher, student, folder):
    """The fused output, composed by hand from stages, module between and tail."""
    model = build('FBT', student, teacher, folder).eval()
    images, labels, _ = batch()
    with torch.no_grad():
        found = model.predict(images, labels)
        reverse = teacher == 'cnn' and student != 'cnn'
        assert model.teacher_front == reverse
        front, tail = (model.teacher.inner, model.backbone)[:: 1 if reverse else -1]
        x = model.between(front.front(images)[2])
        if tail.num_prefix:
            x = torch.cat([tail.net.cls_token.expand(4, -1, -1), x], dim=1)
        wanted = tail.tail(x).logits
    assert torch.equal(torch.stack([sample['scores']['fusion'] for sample in found]), wanted)
    assert 'between' not in ''.join(dict(model.backbone.named_modules()))


@pytest.mark.parametrize('method', METHODS)
@pytest.mark.parametrize(('teacher', 'student'), [('swin', 'cnn'), ('cnn', 'vit'), ('mlp', 'swin')])
def test_every_method_takes_a_step(method, teacher, student, folder):
    model = build(method, student, teacher, folder)
    trained = [name for name, p in model.named_parameters() if p.requires_grad]
    losses = step(model)
    assert 'loss_label' in losses and len(losses) > 1
    assert all(value >= 0 for value in losses.values())
    without = [name for name in trained if model.get_parameter(name).grad is None]
    assert without == []
    assert model.teacher.unchanged()
    assert [card['family'] for card in model.teacher_cards] == [model.teacher.card['family']]


WEIGHTS = {
    'KD': dict(kd_weight=0),
    'DKD': dict(kd_weight=0),
    'DIST': dict(kd_weight=0),
    'FitNet': dict(feature_weight=0),
    'CC': dict(weight=0),
    'RKD': dict(distance_weight=0, angle_weight=0),
    'CRD': dict(crd_weight=0),
    'OFA': dict(kd_weight=0, ofa_weight=0),
    'FBT': dict(pairs=(0, 0, 0)),
}


@pytest.mark.parametrize('method', METHODS)
def test_a_term_of_weight_zero_costs_nothing(method, folder, monkeypatch):
    """The step is the student's alone, to the bit: no teacher runs, nothing more is trained."""
    plain = build('Plain', 'cnn', None, folder)
    wanted = step(plain)
    model = build(method, 'cnn', 'swin', folder, **WEIGHTS[method])
    model.backbone.load_state_dict(plain.backbone.state_dict())
    plain.backbone.load_state_dict(model.backbone.state_dict())
    monkeypatch.setattr(Frozen, 'ask', lambda *_: pytest.fail('the teacher ran'))
    assert step(model) == step(plain) and set(step(model)) == set(wanted)
    assert [n for n, p in model.named_parameters() if p.requires_grad] == [
        n for n, _ in plain.named_parameters()
    ]


@pytest.mark.parametrize(
    ('options', 'absent'),
    [
        (dict(pairs=(1, 0, 1)), 'teacher_fusion'),
        (dict(pairs=(1, 1, 0)), 'fusion_student'),
        (dict(feature_weight=0), 'feature'),
        (dict(logit_weight=0), 'logit'),
    ],
)
def test_fbt_without_one_of_its_terms(options, absent, folder):
    model = build('FBT', 'vit', 'cnn', folder, **options)
    losses = step(model)
    assert losses and not [name for name in losses if absent in name]
    assert all(p.grad is not None for p in model.parameters() if p.requires_grad)


def test_fbt_between_teacher_and_student_alone_builds_no_fusion(folder):
    model = build('FBT', 'cnn', 'vit', folder, pairs=(1, 0, 0))
    assert not model.fuses and not hasattr(model, 'between') and len(model.embed) == 2
    assert set(step(model)) == {
        'loss_label',
        'loss_teacher_student_feature',
        'loss_teacher_student_logit',
    }


@pytest.mark.parametrize('detach', [False, True])
def test_what_reaches_the_fusion(detach, folder):
    """L(f, s) alone: with the fusion detached its module gets no gradient from it."""
    model = build(
        'FBT', 'cnn', 'vit', folder, pairs=(0, 0, 1), detach_fusion=detach, label_weight=0
    )
    step(model)
    assert (model.between.embed.weight.grad is None) == detach
    assert model.backbone.net.fc.weight.grad.abs().sum() > 0


def test_a_front_may_be_chosen(folder):
    model = build('FBT', 'swin', 'mlp', folder, front='teacher')
    assert model.teacher_front and step(model)
    with pytest.raises(ValueError, match="front='both': expected one of auto"):
        build('FBT', 'swin', 'mlp', folder, front='both')


def test_under_bfloat16_the_losses_stay_close(folder):
    for teacher, student in (('swin', 'cnn'), ('cnn', 'vit')):
        model = build('FBT', student, teacher, folder)
        wanted = step(model)
        with torch.autocast('cpu', torch.bfloat16):
            images, labels, index = batch()
            found = model(images, labels, index=index)
        model.parse_losses(found)[0].backward()
        for name, value in wanted.items():
            assert found[name].dtype == torch.float32
            assert found[name].item() == pytest.approx(value, rel=0.05)


def test_mixed_images_reach_the_teacher(folder):
    mixup = dict(mixup_alpha=0.8, cutmix_alpha=1.0, prob=1.0, switch_prob=0.5, mode='batch')
    model = build('OFA', 'vit', 'cnn', folder, mixup=mixup)
    seen = []
    stages = model.teacher.stages
    model.teacher.stages = lambda images: seen.append(images) or stages(images)
    assert set(step(model)) == {'loss_label', 'loss_kd', 'loss_ofa'}
    assert len(seen) == 1 and not torch.equal(seen[0], batch()[0])


def test_negatives_are_of_other_classes(folder):
    model = build('CRD', 'cnn', 'vit', folder, negatives=500)
    labels = torch.tensor([0, 3, 9])
    drawn = model.draw(labels)
    assert drawn.shape == (3, 500)
    for label, row in zip(labels, drawn, strict=True):
        assert (row % 10 != label).all() and len(row.unique()) == 36
    for few in (labels[:0], labels[:1]):
        with pytest.raises(ValueError, match=f'tell {len(few)} labels of {len(few)} classes'):
            model.remember(few)
    with pytest.raises(ValueError, match='do not tell the index'):
        model(*batch()[:2])


def test_teachers_are_counted(folder):
    with pytest.raises(ValueError, match='0 teachers: KD takes 1'):
        build('KD', 'cnn', None, folder)


def test_the_average_of_the_student_follows_every_step(folder):
    """From the first weights on, batch norms too; it is what is evaluated and handed on."""
    model = build('KD', 'cnn', 'vit', folder, ema_decay=0.9)
    with torch.no_grad():
        model.backbone.net.fc.weight.add_(1)  # as a file that the training begins with
    model.prepare(None)
    optimizer = torch.optim.SGD((p for p in model.parameters() if p.requires_grad), lr=0.1)
    model.follow(optimizer)
    wanted = {name: value.clone() for name, value in model.backbone.state_dict().items()}
    for _ in range(3):
        step(model, optimizer)
        for name, value in model.backbone.state_dict().items():
            wanted[name] = 0.9 * wanted[name] + 0.1 * value if value.is_floating_point() else value
    average = model.exported.state_dict()
    assert model.exported is not model.backbone and average.keys() == wanted.keys()
    for name, value in wanted.items():
        assert torch.allclose(average[name], value, atol=1e-6), name
    assert not torch.equal(average['net.fc.weight'], model.backbone.net.fc.weight)
    mine = {id(p) for group in optimizer.param_groups for p in group['params']}
    assert not mine & {id(p) for p in model.exported.parameters()}
    images, labels, _ = batch()
    found = model.eval()(images, labels, mode='predict')
    assert set(found[0]['scores']) == {'student', 'trained'}
    for name, network in (('student', model.exported), ('trained', model.backbone)):
        assert torch.equal(found[0]['scores'][name], network.logits(images)[0])


def test_a_decay_that_is_none(folder):
    with pytest.raises(ValueError, match='ema_decay=1.0: expected between 0 and 1, or None'):
        build('KD', 'cnn', 'vit', folder, ema_decay=1.0)
    assert build('KD', 'cnn', 'vit', folder).exported.training
