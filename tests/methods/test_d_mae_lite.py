"""D-MAE-Lite against an independent float64 formula, and what it trains and leaves behind."""

import math

import pytest
import torch

from backbones import load_student, save_student
from comad.methods.d_mae_lite import DMAELite
from comad.methods.mae import MAE
from tests.precision import check_bfloat16

NAMES = ('loss_pixel', 'loss_attention')


@pytest.fixture
def build_lite(build, teachers):
    """A D-MAE-Lite with the MAE teacher; the student has 2 heads of 16, the teacher 2."""
    teacher = {k: v for k, v in teachers[0].items() if k != 'mask_ratio'}

    def make(backbone=None, **options):
        options = {'teachers': [teacher], 'decoder': dict(arch='sample_tiny'), **options}
        return build('DMAELite', backbone, **options).train()

    return make


def fixed_mask(model, images, monkeypatch):
    keep, mask = model.draw_mask(images)
    monkeypatch.setattr(model, 'draw_mask', lambda given: (keep, mask))
    return keep, mask


def loop_logits(network, x, block):
    """[image][head] -> (T, T) logits of a block for its raw input, products one by one."""
    part = network.blocks[block]
    x = x.double()
    mean, variance = x.mean(-1, keepdim=True), x.var(-1, unbiased=False, keepdim=True)
    normed = (x - mean) / (variance + 1e-6).sqrt()
    normed = normed * part.norm1.weight.double() + part.norm1.bias.double()
    packed = normed @ part.attn.qkv.weight.double().T + part.attn.qkv.bias.double()
    D, h = x.shape[-1], network.num_heads
    c = D // h
    logits = []
    for image in packed:
        heads = []
        for head in range(h):
            q = image[:, head * c : (head + 1) * c]
            k = image[:, D + head * c : D + (head + 1) * c]
            heads.append([[float(a @ b) / math.sqrt(c) for b in k] for a in q])
        logits.append(heads)
    return logits


@torch.no_grad()
@pytest.mark.parametrize('heads', [2, 4])
def test_losses_equal_a_float64_loop(build_lite, images, monkeypatch, heads):
    model = build_lite(dict(num_heads=heads), attention_weight=0.5)
    keep, mask = fixed_mask(model, images, monkeypatch)
    (teacher,) = model.teacher_networks
    ours = loop_logits(model.backbone, model.backbone.tokens(images, keep, layers=[0])[0], 1)
    theirs = loop_logits(teacher, teacher.tokens(images, keep, layers=[0])[0], 1)
    weight = model.head_maps[0].weight.double()[:, :, 0, 0].tolist()
    assert (len(weight), len(weight[0])) == (2, heads) and model.head_maps[0].bias is None
    terms = []
    for mine, wanted in zip(ours, theirs, strict=True):
        for head, row in enumerate(weight):
            for i in range(5):
                for j in range(5):
                    mapped = sum(w * mine[h][i][j] for h, w in enumerate(row))
                    terms.append((mapped - wanted[head][i][j]) ** 2)
    losses = model(images)
    expected = 0.5 * sum(terms) / len(terms)
    assert float(losses['loss_attention']) == pytest.approx(expected, rel=1e-4)
    pixel = model.rebuild(images, model.backbone.tokens(images, keep), keep, mask)
    assert float(losses['loss_pixel']) == pytest.approx(float(pixel), rel=1e-6)
    assert set(losses) == set(NAMES)


def test_its_pixel_loss_is_maes(build_lite, build, images):
    lite, mae = build_lite(attention_weight=0.0), build('MAE', decoder=dict(arch='sample_tiny'))
    mae.load_state_dict({k: v for k, v in lite.state_dict().items() if 'head_maps' not in k})
    found = []
    for model in (lite, mae.train()):
        torch.manual_seed(4)
        found.append(model(images)['loss_pixel'].item())
    assert found[0] == pytest.approx(found[1], rel=1e-6)


def test_student_and_teacher_see_the_same_patches(build_lite, images, monkeypatch):
    model = build_lite()
    keep, _ = fixed_mask(model, images, monkeypatch)
    (teacher,) = model.teacher_networks
    before, seen = teacher.tokens, []

    def spy(given, kept, layers):
        seen.append((kept, layers))
        return before(given, kept, layers)

    monkeypatch.setattr(teacher, 'tokens', spy)
    model(images)
    ((kept, layers),) = seen
    assert torch.equal(kept, keep) and kept.shape == (6, 4) and layers == [0]


@pytest.mark.parametrize('options', [dict(), dict(layers=[(1, 2), (2, 2)])], ids=str)
def test_a_step_trains_student_decoder_and_head_maps_only(build_lite, images, options):
    model = build_lite(**options)
    before = model.teacher_networks[0].digest()
    sum(model(images).values()).backward()
    for name, parameter in model.named_parameters():
        frozen = name == 'backbone.pos_embed' or name.startswith('teacher_networks')
        assert (parameter.grad is None) == frozen, name
    assert model.teacher_networks[0].digest() == before


def test_attention_reaches_the_student_below_the_block_and_not_above(build_lite, images):
    model = build_lite()
    model(images)['loss_attention'].backward()
    assert model.backbone.blocks[0].mlp.fc1.weight.grad.abs().sum() > 0
    gradient = model.backbone.blocks[1].attn.qkv.weight.grad
    assert gradient[:64].abs().sum() > 0 and gradient[64:].abs().sum() == 0  # q, k; v
    assert model.backbone.blocks[1].mlp.fc1.weight.grad is None
    assert model.decoder.predict.weight.grad is None


def test_the_exported_student_has_no_head_map(build_lite, images, tmp_path):
    model = build_lite()
    card = dict(name='d_mae_lite_tiny', method='d_mae_lite', track='full', seed=0)
    student = load_student(save_student(tmp_path, model.exported, card))
    assert set(student.state_dict()) == set(model.backbone.state_dict())
    assert torch.equal(student.eval().tokens(images), model.eval().backbone.tokens(images))
    # Its file is no MAE teacher: that name belongs to MAE's own runs.
    assert not hasattr(model, 'official_checkpoint') and hasattr(MAE, 'official_checkpoint')
    assert not any(name.startswith('teacher_networks') for name in model.state_dict())


def test_the_teachers_attention_can_be_learned(build_lite, images, monkeypatch):
    model = build_lite()
    fixed_mask(model, images, monkeypatch)
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=3e-3)
    history = []
    for _ in range(30):
        losses = model(images)
        optimizer.zero_grad()
        sum(losses.values()).backward()
        optimizer.step()
        history.append(float(losses['loss_attention'].detach()))
    assert history[-1] < 0.5 * history[0]


def test_bfloat16_rounds_in_the_networks_alone(build_lite, images):
    networks = ('encode', 'teacher_logits', 'head_maps.0.forward', 'decoder.forward')
    check_bfloat16(build_lite(), images, networks)


@pytest.mark.parametrize(
    ('options', 'named'),
    [
        (dict(teachers=[]), '0 teachers: expected one'),
        (dict(layers=[(2, 1)]), r'from \(1, 2\) to \(2, 2\)'),
        (dict(layers=[(2, 3)]), r'from \(1, 2\) to \(2, 2\)'),
        (dict(layers='first'), "layers='first': expected different pairs"),
    ],
    ids=str,
)
def test_bad_options_are_answered_in_one_line(build_lite, options, named):
    with pytest.raises(ValueError, match=named) as caught:
        build_lite(**options)
    assert '\n' not in str(caught.value)


def test_a_teacher_without_readable_attention_is_named(build_lite, monkeypatch):
    monkeypatch.delattr('backbones.vit.MaskedViT.qkv')
    monkeypatch.setattr(DMAELite, 'vit_only', False)  # the student lacks it here as well
    with pytest.raises(ValueError, match='teacher mae: its attention is not read'):
        build_lite()
