"""VideoMAE and AMD on video against the formulas of their papers and code."""

import pytest
import torch
from mmengine.registry import MODELS

import comad.methods  # noqa: F401
from backbones import build_teacher
from backbones.video_files import fused
from comad.data.preprocessor import MEAN, STD
from comad.methods.base import seeded
from comad.methods.parts.cubes import CubePixels, draw_tubes, hidden_cubes
from tests.video import reference

STUDENT = dict(
    arch='sample_video_small',
    patch_size=16,
    embed_dim=32,
    depth=2,
    num_heads=2,
    img_size=64,
    frames=4,
)
TEACHER = dict(
    arch='sample_video_large',
    patch_size=16,
    embed_dim=48,
    depth=4,
    num_heads=3,
    img_size=64,
    frames=4,
)
DECODER = dict(arch='sample_video_small', width=16, depth=1, num_heads=2)


@pytest.fixture
def clips():
    return torch.randn(2, 3, 4, 64, 64, generator=torch.Generator().manual_seed(1)).double()


@pytest.fixture
def teacher_tensors():
    return reference.draw(reference.pretraining_shapes(48, 4, 16, 1), seed=3)


@pytest.fixture
def build_amd(teacher_tensors, tmp_path):
    def make(**options):
        path = tmp_path / 'videomae.pth'
        torch.save({'model': {k: v.float() for k, v in teacher_tensors.items()}}, path)
        entry = dict(family='videomae', checkpoint=str(path), mask_ratio=0.75, **TEACHER)
        options = {'teachers': [entry], 'decoder': DECODER, 'generator_heads': 3, **options}
        return MODELS.build(
            dict(type='AMDVideo', backbone=dict(type='MaskedVideoViT', **STUDENT), **options)
        )

    return make


def build_mae(**options):
    backbone = dict(type='MaskedVideoViT', **STUDENT)
    return MODELS.build(dict(type='VideoMAE', backbone=backbone, decoder=DECODER, **options))


def fill(model, tensors):
    """Official tensors into a method, in float64."""
    model.double()
    names = fused(tensors)
    encoder = {k[8:]: v for k, v in names.items() if k.startswith('encoder.')}
    maps = {k: encoder.pop(k) for k in list(encoder) if k.startswith('projection_heads')}
    model.backbone.load_state_dict(encoder)
    decoder = {k.removeprefix('decoder.'): v for k, v in names.items() if k.startswith('decoder')}
    beside = ('mask_token', 'encoder_to_decoder.weight')
    model.decoder.load_state_dict({**decoder, **{k: names[k] for k in beside}})
    for i, linear in enumerate(getattr(model, 'maps', ())):
        linear.weight.data.copy_(maps[f'projection_heads.{i}.weight'])
        start = f'generators.{i}.'
        own = {k.removeprefix(start): v for k, v in names.items() if k.startswith(start)}
        blocks = {k: v for k, v in own.items() if k.startswith('blocks')}
        found = model.generators[i].load_state_dict(blocks, strict=False)
        assert found.missing_keys == ['mask_token'] and not found.unexpected_keys
    return model


def reconstruction(clip, outputs, keep, tensors):
    count = len(reference.cubes(clip))
    hidden = [i for i in range(count) if i not in keep]
    tokens = reference.norm(outputs[-1], tensors, 'encoder.norm')
    found = reference.decode(tokens, keep, hidden, tensors, 2)
    mean, std = (torch.tensor(v).double().view(3, 1, 1, 1) / 255 for v in (MEAN, STD))
    target = [reference.pixels(reference.cubes(clip * std + mean)[i]) for i in hidden]
    return (found - torch.stack(target)).square().mean()


@torch.no_grad()
def test_videomae_is_the_formula(clips):
    tensors = reference.draw(reference.pretraining_shapes(32, 2, 16, 1))
    model = fill(build_mae(mask_ratio=0.75), tensors)
    with seeded(5):
        found = float(model(clips)['loss_pixel'])
    with seeded(5):
        (keep,) = model.draw_masks(clips)
    assert keep.shape == (2, 8)
    expected = []
    for clip, kept in zip(clips, keep.tolist(), strict=True):
        outputs = reference.encode(clip, kept, tensors, 2)
        expected.append(reconstruction(clip, outputs, kept, tensors))
    assert found == pytest.approx(float(torch.stack(expected).mean()), rel=1e-9)


@torch.no_grad()
def test_amd_is_the_formula(build_amd, teacher_tensors, clips):
    tensors = reference.draw(reference.pretraining_shapes(32, 2, 16, 1, teacher=48))
    model = fill(build_amd(direct_weight=2.0, generation_weight=0.5), tensors)
    assert model.block_pairs == [(1, 2), (2, 4)]
    model.teacher.double()
    teacher = {k: v.float().double() for k, v in teacher_tensors.items()}
    with seeded(5):
        found = {name: float(value) for name, value in model(clips).items()}
    with seeded(5):
        keep, missing = model.draw_masks(clips)
    assert keep.shape == (2, 4) and missing.shape == (2, 4)
    table = reference.positions(48, 32)
    terms = {'loss_pixel': [], 'loss_direct': [], 'loss_generation': []}
    for clip, kept, others in zip(clips, keep.tolist(), missing.tolist(), strict=True):
        outputs = reference.encode(clip, kept, tensors, 2)
        targets = reference.encode(clip, kept + others, teacher, 3)
        terms['loss_pixel'].append(reconstruction(clip, outputs, kept, tensors))
        for i, (s, t) in enumerate(model.block_pairs):
            mapped = outputs[s - 1] @ tensors[f'encoder.projection_heads.{i}.weight'].T
            terms['loss_direct'].append(2.0 * (mapped - targets[t - 1][:4]).square().mean())
            token = model.generators[i].mask_token[0, 0]
            rows = [row + table[p] for row, p in zip(mapped, kept, strict=True)]
            x = torch.stack(rows + [token + table[p] for p in others])
            for j in range(2):
                x = reference.block(x, tensors, f'generators.{i}.blocks.{j}.', 3)
            terms['loss_generation'].append(0.5 * (x[4:] - targets[t - 1][4:]).square().mean())
    assert found.keys() == terms.keys()
    for name, values in terms.items():
        assert found[name] == pytest.approx(float(torch.stack(values).mean()), rel=1e-9), name


@torch.no_grad()
def test_float32_is_float64_to_a_millionth(build_amd, clips):
    tensors = reference.draw(reference.pretraining_shapes(32, 2, 16, 1, teacher=48))
    model = fill(build_amd(), tensors)
    model.teacher.double()
    with seeded(5):
        wide = model(clips)
    model.float()
    with seeded(5):
        narrow = model(clips.float())
    for name, value in wide.items():
        assert float(narrow[name]) == pytest.approx(float(value), rel=1e-5), name


def test_tubes_have_the_papers_counts_and_are_nested():
    student, missing = draw_tubes(5, (8, 14, 14), (0.9, 0.75))
    assert student.shape == (5, 160) and missing.shape == (5, 232)
    for b in range(5):
        places = student[b].reshape(8, 20) % 196
        assert (places == places[0]).all() and (places[0].diff() > 0).all()
        assert torch.equal(student[b] // 196, torch.arange(8).repeat_interleave(20))
        assert len({*student[b].tolist(), *missing[b].tolist()}) == 392
    assert not torch.equal(student[0], student[1])
    hidden = hidden_cubes(student, 1568)
    assert hidden.shape == (5, 1408) and (hidden.diff() > 0).all()
    for b in range(5):
        assert not {*hidden[b].tolist()} & {*student[b].tolist()}


def test_pixels_of_a_cube_by_hand():
    pixels, clips = CubePixels((2, 16, 16), norm_pix=False), torch.zeros(1, 3, 2, 16, 32)
    clips[0, 1, 1, 2, 20] = 1.0  # green, second frame, row 2, column 4 of the cube 1
    found = pixels(clips, torch.tensor([[1]]))[0, 0]
    base = torch.tensor(MEAN) / 255
    assert torch.allclose(found[:3], base)
    where = (1 * 256 + 2 * 16 + 4) * 3 + 1
    assert float(found[where]) == pytest.approx(float(base[1]) + STD[1] / 255)
    # A flat cube has a deviation of 0: the target is finite.
    assert (
        CubePixels((2, 16, 16))(torch.zeros(1, 3, 2, 16, 32), torch.tensor([[0]])).abs().max() < 1
    )


def test_every_part_learns_but_the_teacher(build_amd, clips):
    model = build_amd()
    before = model.teacher.digest()
    sum(model(clips.float()).values()).backward()
    for name, parameter in model.named_parameters():
        assert (parameter.grad is None) == name.startswith('teacher_networks'), name
    assert model.teacher.digest() == before
    for module in (model.generators[0], model.decoder):
        assert not module.blocks[0].attn.qkv.bias.grad.chunk(3)[1].any()
        assert 0 < float(module.mask_token.detach().abs().max()) <= 0.02


def test_mask_tokens_as_released_are_kept_but_not_trained(build_amd, clips):
    model = build_amd(train_mask_tokens=False)
    tokens = [generator.mask_token for generator in model.generators]
    assert all(token.abs().max() > 0 and not token.requires_grad for token in tokens)
    sum(model(clips.float()).values()).backward()
    assert all(token.grad is None for token in tokens)
    assert 'generators.0.mask_token' in model.state_dict()


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        (dict(mask_ratio=0.75), 'leaves 4 of 16 places'),
        (dict(mask_ratio=1.0), 'expected 0 <= ratio < 1'),
        (dict(decoder=dict(arch='vast')), "arch='vast'"),
    ],
)
def test_impossible_options_are_refused(build_amd, options, message):
    with pytest.raises(ValueError, match=message):
        build_amd(**options)
    with pytest.raises(ValueError, match='hides none'):
        build_mae(mask_ratio=0.01)


def test_a_teacher_of_another_grid_is_refused(build_amd, teacher_tensors, tmp_path):
    model = build_amd()
    entry = dict(
        family='videomae',
        checkpoint=str(tmp_path / 'videomae.pth'),
        mask_ratio=0.75,
        **{**TEACHER, 'frames': 8},
    )
    assert model.teacher.token_grid == (2, 4, 4)
    with pytest.raises(ValueError, match=r'grid of \(4, 4, 4\)'):
        build_amd(teachers=[entry])


@torch.no_grad()
def test_videomae_writes_the_file_that_teachers_are_read_from(tmp_path, clips):
    model = build_mae()
    name, content = model.official_checkpoint()
    assert name == 'videomae_pretrain_vit_small.pth'
    shapes = {k: list(v.shape) for k, v in content['model'].items()}
    assert shapes == reference.pretraining_shapes(32, 2, 16, 1)
    torch.save(content, tmp_path / name)
    teacher = build_teacher('videomae', tmp_path / name, **STUDENT)
    clips = clips.float()
    assert torch.equal(teacher.tokens(clips), model.backbone.eval().tokens(clips))
