import pytest
import torch
import torch.nn.functional as F

from backbones import load_student, save_student
from comad.methods.amd import halves
from comad.methods.base import seeded
from comad.methods.parts.positions import sincos_positions
from tests.precision import check_bfloat16

SHAPE = dict(arch='sample_tiny', img_size=32)


@pytest.fixture
def write_teacher(build, tmp_path):
    """Arguments of an MAE teacher of another depth and width than the student."""

    def make(depth=6, width=64):
        shape = dict(embed_dim=width, depth=depth)
        source = build('MAE', shape, decoder=dict(arch='sample_tiny'))
        torch.save(source.official_checkpoint()[1], tmp_path / 'mae.pth')
        return dict(family='mae', checkpoint=str(tmp_path / 'mae.pth'), **SHAPE, **shape)

    return make


@pytest.fixture
def build_amd(build, write_teacher):
    def make(backbone=None, teacher=None, **options):
        teacher = {**(teacher or write_teacher()), 'mask_ratio': options.pop('teacher_ratio', 0.5)}
        options = {'teachers': [teacher], 'decoder': dict(arch='sample_tiny'), **options}
        return build('AMD', backbone, **options).train()

    return make


def test_a_step_trains_student_maps_generators_and_decoder(build_amd, images):
    model = build_amd()
    before = model.teacher.digest()
    losses = model(images)
    assert set(losses) == {'loss_pixel', 'loss_direct', 'loss_generation'}
    sum(losses.values()).backward()
    for name, parameter in model.named_parameters():
        fixed = name.startswith('teacher_networks') or name == 'backbone.pos_embed'
        assert (parameter.grad is None) == fixed, name
    assert model.teacher.digest() == before
    assert not any(name.startswith('teacher_networks') for name in model.state_dict())


def test_mask_tokens_of_the_generators_are_registered_and_move(build_amd, images):
    model = build_amd()
    tokens = [generator.mask_token for generator in model.generators]
    assert len(tokens) == 2
    assert all(any(t is p for p in model.parameters()) for t in tokens)
    assert {f'generators.{i}.mask_token' for i in range(2)} <= set(model.state_dict())
    before = [t.detach().clone() for t in tokens]
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    model(images)['loss_generation'].backward()
    optimizer.step()
    assert not any(torch.equal(a, b) for a, b in zip(tokens, before, strict=True))


def test_masks_are_nested_with_constant_counts(build_amd, images):
    model = build_amd()
    keep, missing = model.draw_masks(images)
    assert keep.shape == (6, 4) and missing.shape == (6, 4)
    for b in range(6):
        assert len({*keep[b].tolist(), *missing[b].tolist()}) == 8
    # At 14 x 14 patches: 49 seen by the student, 98 by the teacher.
    N, model.backbone.num_patches = model.backbone.num_patches, 196
    keep, missing = model.draw_masks(images)
    model.backbone.num_patches = N
    assert keep.shape == missing.shape == (6, 49)


def test_default_pairs():
    assert halves(12, 12) == [(6, 6), (12, 12)]
    assert halves(12, 24) == [(6, 12), (12, 24)]
    assert halves(4, 4) == [(2, 2), (4, 4)]
    assert halves(1, 1) == [(1, 1)]


def generated(generator, cls, tokens, keep, missing):
    """The generator for one image, its tokens placed on a grid one by one."""
    width, (visible, hidden) = tokens.shape[-1], (keep.tolist(), missing.tolist())
    table = sincos_positions(width, 4, 'w')[0, 1:]
    rows = [*cls]
    rows += [tokens[i] + table[place] for i, place in enumerate(visible)]
    rows += [generator.mask_token[0, 0] + table[place] for place in hidden]
    x = torch.stack(rows).unsqueeze(0)
    for block in generator.blocks:
        x = block(x)
    return x[0, len(cls) + len(visible) :]


@pytest.mark.parametrize('distill_cls', [True, False])
@torch.no_grad()
def test_losses_are_those_of_an_independent_formula(build_amd, images, distill_cls):
    model = build_amd(distill_cls=distill_cls, direct_weight=2.0, generation_weight=0.5).eval()
    with seeded(4):
        losses = model(images)
    with seeded(4):
        keep, missing = model.draw_masks(images)
    teacher, student, pairs = model.teacher, model.backbone, [(1, 3), (2, 6)]
    assert model.block_pairs == pairs
    direct, generation, pixels = [], [], []
    for b in range(6):
        image, both = images[b : b + 1], torch.cat([keep[b], missing[b]])
        x = student.embed(image, keep[b : b + 1])
        y = teacher.embed(image, both.unsqueeze(0))
        outputs, targets = [], []
        for block in student.blocks:
            outputs.append(x := block(x))
        for block in teacher.blocks:
            targets.append(y := block(y))
        for i, (s, t) in enumerate(pairs):
            mapped = outputs[s - 1][0] @ model.maps[i].weight.T
            target, first = targets[t - 1][0], 0 if distill_cls else 1
            direct.append(((mapped - target[:5]) ** 2)[first:].mean())
            found = generated(model.generators[i], mapped[first:1], mapped[1:], keep[b], missing[b])
            generation.append(((found - target[5:]) ** 2).mean())
        rebuilt = model.decoder(student.norm(x), keep[b : b + 1])[0]
        patches = F.unfold(image, 8, stride=8)[0].T.reshape(16, 3, 64).transpose(1, 2)
        for place in set(range(16)) - set(keep[b].tolist()):
            patch = patches[place].flatten()
            patch = (patch - patch.mean()) / (patch.var() + 1e-6).sqrt()
            pixels.append(((rebuilt[place] - patch) ** 2).mean())
    for name, weight, terms in (
        ('loss_pixel', 1.0, pixels),
        ('loss_direct', 2.0, direct),
        ('loss_generation', 0.5, generation),
    ):
        expected = weight * float(torch.stack(terms).mean())
        assert float(losses[name]) == pytest.approx(expected, rel=1e-4), name


@torch.no_grad()
def test_the_generator_knows_missing_patches_by_their_places_only(build_amd):
    generator = build_amd().generators[0].eval()
    cls, tokens = torch.randn(2, 1, 64), torch.randn(2, 3, 64)
    keep, missing = torch.tensor([[0, 5, 9], [1, 2, 3]]), torch.tensor([[7, 4], [15, 0]])
    found = generator(cls, tokens, keep, missing)
    swapped = generator(cls, tokens, keep, missing.flip(1))
    assert found.shape == (2, 2, 64)
    assert torch.allclose(found, swapped.flip(1), atol=1e-5)
    assert not torch.allclose(found, swapped, atol=1e-3)


def test_other_depths_pairs_and_ratios(build_amd, write_teacher, images):
    model = build_amd(dict(depth=3), write_teacher(depth=5, width=96), teacher_ratio=0.0)
    assert model.block_pairs == [(1, 2), (3, 5)]
    assert all(torch.isfinite(value) for value in model(images).values())
    one = build_amd(block_pairs=[(2, 6)])
    assert len(one.maps) == len(one.generators) == 1
    assert all(torch.isfinite(value) for value in one(images).values())


def test_the_exported_student_is_complete_and_bare(build_amd, images, tmp_path):
    model = build_amd().eval()
    save_student(tmp_path, model.exported, dict(name='amd_tiny', method='amd', arch='tiny'))
    again = load_student(tmp_path / 'student.safetensors')
    assert set(again.state_dict()) == set(build_amd().backbone.state_dict())
    assert torch.equal(again.eval().tokens(images), model.backbone.tokens(images))


def test_bfloat16_rounds_in_the_networks_alone(build_amd, images):
    pairs = [f'{part}.{i}.forward' for part in ('maps', 'generators') for i in range(2)]
    networks = ('teacher_outputs', 'student_outputs', *pairs, 'decoder.forward')
    check_bfloat16(build_amd(), images, networks)


@pytest.mark.parametrize(
    ('options', 'named'),
    [
        (dict(teacher_ratio=0.9), 'teacher mask_ratio=0.9 leaves fewer patches'),
        (dict(teacher_ratio=0.75), 'mask_ratio=0.75 leaves as many patches as the student sees'),
        (dict(block_pairs=[(3, 6)]), r'block_pairs=\[\(3, 6\)\].* from \(1, 1\) to \(2, 6\)'),
        (dict(block_pairs=[(2, 6), (2, 6)]), 'expected different pairs'),
        (dict(generator_depth=0), 'generator_depth=0'),
        (dict(generator_heads=5), 'generator_heads=5: .* divide the width 64'),
        (dict(teachers=[]), r'teachers=\[\]: AMD has one, with family and mask_ratio'),
    ],
)
def test_bad_options_are_named(build_amd, options, named):
    with pytest.raises(ValueError, match=named):
        build_amd(**options)
