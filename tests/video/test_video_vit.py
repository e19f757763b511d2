"""The network on video, and the official files that fill it."""

import pytest
import torch

from backbones import (
    CheckpointError,
    MaskedVideoViT,
    build_network,
    build_teacher,
    load_student,
    save_student,
)
from backbones.architectures import display_name, network_type, sample_name, split_name
from backbones.contract import BlockNetwork
from backbones.video_files import as_official, official_tensors, read_video_classifier
from tests.video import reference

SHAPE = dict(
    arch='sample_video_small',
    patch_size=16,
    img_size=32,
    frames=4,
    embed_dim=32,
    depth=2,
    num_heads=2,
)
SIZES = (32, 2, 16, 1)


def network(**options):
    return MaskedVideoViT(**{**SHAPE, **options})


def write(path, tensors, key='model', **beside):
    content = {k: v.float() for k, v in tensors.items()}
    torch.save({key: content, **beside} if key else content, path)
    return str(path)


def teacher(path, family='videomae', **options):
    return build_teacher(family, path, **{**SHAPE, **options})


def test_positions_are_the_flat_table():
    table = network().positions
    assert table.shape == (1, 8, 32)
    torch.testing.assert_close(table[0], reference.positions(32, 8).float(), rtol=0, atol=0)
    # By hand: channel 3 of the cube 5 is a cosine of 5 / 10000^(2 / 32).
    assert float(table[0, 5, 3]) == pytest.approx(float(torch.tensor(5 / 10000**0.0625).cos()))
    assert 'positions' not in network().state_dict()


def test_full_size_has_the_papers_cubes():
    with torch.device('meta'):
        base = build_network('video_base')
    assert base.grid_size == (8, 14, 14) and base.num_patches == 1568 and base.num_prefix == 0
    encoder = sum(p.numel() for p in base.parameters()) - 12 * 768  # no key bias
    assert round(encoder / 1e6, 1) == 86.2


@torch.no_grad()
def test_tokens_are_those_of_the_official_code_in_float64(tmp_path):
    tensors = reference.draw(reference.pretraining_shapes(*SIZES))
    found = teacher(write(tmp_path / 'a.pth', tensors)).double()
    tensors = {k: v.float().double() for k, v in tensors.items()}
    clip = torch.randn(3, 4, 32, 32, dtype=torch.float64)
    keep = [6, 1, 3]
    outputs = reference.encode(clip, keep, tensors, 2)
    given = found.tokens(clip[None], torch.tensor([keep]), [0, 1])
    for mine, theirs in zip(given, outputs, strict=True):
        torch.testing.assert_close(mine[0], theirs, rtol=1e-9, atol=1e-12)
    last = reference.norm(outputs[1], tensors, 'encoder.norm')
    given = found.tokens(clip[None], torch.tensor([keep]))[0]
    torch.testing.assert_close(given, last, rtol=1e-9, atol=1e-12)


@torch.no_grad()
def test_hidden_cubes_are_never_read():
    model, clips = network().eval(), torch.randn(2, 3, 4, 32, 32)
    keep = torch.tensor([[0, 5], [7, 2]])
    before = model.tokens(clips, keep)
    torch.testing.assert_close(model.embed(clips, keep)[1, 0], model.embed(clips)[1, 7])
    for b in range(2):
        for index in set(range(8)) - set(keep[b].tolist()):
            t, y, x = index // 4 * 2, index // 2 % 2 * 16, index % 2 * 16
            clips[b, :, t : t + 2, y : y + 16, x : x + 16] = float('nan')
    assert torch.equal(model.tokens(clips, keep), before)


def test_it_is_a_block_network_without_prefix():
    model, clips = network(), torch.randn(2, 3, 4, 32, 32)
    assert isinstance(model, BlockNetwork)
    raw = model.embed(clips)
    assert torch.equal(model.norm(model.run(raw)), model.tokens(clips))
    torch.testing.assert_close(model.features(clips)['mean'], model.tokens(clips).mean(1))
    assert [part.shape for part in model.qkv(raw, 1)] == [(2, 2, 8, 16)] * 3


def test_keys_stay_without_bias():
    model = network()
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.1)
    for _ in range(2):
        optimizer.zero_grad()
        model(torch.randn(2, 3, 4, 32, 32)).square().sum().backward()
        optimizer.step()
    for block in model.blocks:
        query, key, value = block.attn.qkv.bias.chunk(3)
        assert not key.any() and query.all() and value.all()


@pytest.mark.parametrize('shape', [(2, 3, 32, 32), (2, 3, 4, 48, 32), (2, 3, 6, 32, 32)])
def test_other_clips_are_refused(shape):
    with pytest.raises(ValueError, match='clips'):
        network().tokens(torch.zeros(shape))


@pytest.mark.parametrize('key', ['model', 'module', None])
def test_files_fill_the_network_completely(tmp_path, key):
    tensors = reference.draw(reference.pretraining_shapes(*SIZES))
    found = teacher(write(tmp_path / 'a.pth', tensors, key, epoch=3))
    assert found.card['family'] == 'videomae' and found.unchanged()
    bias = found.blocks[1].attn.qkv.bias.double()
    expected = (tensors['encoder.blocks.1.attn.q_bias'], tensors['encoder.blocks.1.attn.v_bias'])
    torch.testing.assert_close(bias[:32], expected[0], rtol=1e-6, atol=1e-7)
    torch.testing.assert_close(bias[64:], expected[1], rtol=1e-6, atol=1e-7)
    assert not bias[32:64].any()


def test_amd_files_are_a_family_of_their_own(tmp_path):
    tensors = reference.draw(reference.pretraining_shapes(*SIZES, teacher=48))
    path = write(tmp_path / 'amd.pth', tensors)
    assert teacher(path, 'amd_video').card['family'] == 'amd_video'
    with pytest.raises(CheckpointError, match=r'unexpected \(generators'):
        teacher(path, 'videomae')
    plain = write(tmp_path / 'mae.pth', reference.draw(reference.pretraining_shapes(*SIZES)))
    with pytest.raises(CheckpointError, match=r'has no generators\.\*'):
        teacher(plain, 'amd_video')


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        (lambda t: t.pop('encoder.blocks.1.attn.q_bias'), 'missing .blocks.1.attn.qkv.bias'),
        (lambda t: t.pop('encoder.norm.weight'), 'missing .norm.weight'),
        (lambda t: t.update({'encoder.blocks.2.norm1.weight': torch.zeros(32)}), 'unexpected'),
        (lambda t: t.update({'encoder.cls_token': torch.zeros(1, 1, 32)}), 'unexpected'),
        (
            lambda t: t.update({'encoder.patch_embed.proj.weight': torch.zeros(32, 3, 4, 16, 16)}),
            'of wrong shape .patch_embed.proj.weight is .32, 3, 4',
        ),
        (
            lambda t: t.update({'encoder.patch_embed.proj.weight': torch.zeros(32, 3, 16, 16)}),
            'does not look like a videomae file',
        ),
    ],
)
def test_anything_but_a_complete_match_is_refused(tmp_path, change, message):
    tensors = reference.draw(reference.pretraining_shapes(*SIZES))
    change(tensors)
    with pytest.raises(CheckpointError, match=message):
        teacher(write(tmp_path / 'a.pth', tensors))


@pytest.mark.parametrize('key', ['module', 'model'])
def test_fine_tuned_files_are_no_teachers_but_classifiers(tmp_path, key):
    tensors = reference.draw(reference.finetuned_shapes(32, 2, 7))
    path = write(tmp_path / 'a.pth', tensors, key)
    with pytest.raises(CheckpointError, match='fine-tuned'):
        teacher(path)
    found = read_video_classifier({key: tensors}, path)
    own = {k for k in network().state_dict() if not k.startswith('norm.')}
    assert set(found) == own | {'fc_norm.weight', 'fc_norm.bias', 'head.weight', 'head.bias'}


def transformers_names(tensors):
    """The other direction of what is read."""
    renamed = {}
    for name, value in tensors.items():
        name = name.replace(
            'encoder.patch_embed.proj', 'videomae.embeddings.patch_embeddings.projection'
        )
        name = name.replace('encoder.blocks', 'videomae.encoder.layer')
        name = name.replace('encoder.norm', 'videomae.layernorm')
        name = name.replace('decoder.blocks', 'decoder.decoder_layers')
        name = name.replace('norm1', 'layernorm_before').replace('norm2', 'layernorm_after')
        name = name.replace('mlp.fc1', 'intermediate.dense').replace('mlp.fc2', 'output.dense')
        name = name.replace('attn.proj', 'attention.output.dense')
        if name.endswith('attn.qkv.weight'):
            for part, matrix in zip(('query', 'key', 'value'), value.chunk(3), strict=True):
                new = name.replace('attn.qkv', f'attention.attention.{part}')
                renamed[new] = matrix.clone()
            continue
        renamed[name.replace('attn.', 'attention.attention.')] = value
    return renamed


@pytest.mark.parametrize('renamed_on_load', [False, True])
def test_transformers_files_are_the_same_network(tmp_path, renamed_on_load):
    tensors = reference.draw(reference.pretraining_shapes(*SIZES))
    official = teacher(write(tmp_path / 'a.pth', tensors))
    theirs = transformers_names(tensors)
    if renamed_on_load:
        theirs = {
            k.replace('.q_bias', '.query.bias').replace('.v_bias', '.value.bias'): v
            for k, v in theirs.items()
        }
    found = teacher(write(tmp_path / 'b.pth', theirs, None))
    assert found.digest() == official.digest()
    theirs.pop('videomae.encoder.layer.0.attention.attention.key.weight')
    with pytest.raises(CheckpointError, match='query.weight'):
        teacher(write(tmp_path / 'c.pth', theirs, None))


def test_own_weights_go_out_by_the_official_names_and_come_back(tmp_path):
    model = network()
    with torch.no_grad():
        model.blocks[0].attn.qkv.bias[:32] = 1.5
    tensors = as_official(model.state_dict(), 'encoder.')
    names = set(reference.pretraining_shapes(*SIZES))
    assert set(tensors) == {name for name in names if name.startswith('encoder.')}
    beside = {'decoder.norm.weight': torch.zeros(16)}
    found = teacher(write(tmp_path / 'a.pth', {**tensors, **beside}))
    for name, value in found.state_dict().items():
        assert torch.equal(value, model.state_dict()[name]), name
    assert official_tensors({'model': {'x': torch.zeros(1)}}) == {}


def test_students_are_written_and_read_with_their_grid(tmp_path):
    path = save_student(tmp_path, network(), {'method': 'videomae'})
    assert load_student(path).architecture() == network().architecture()
    other = network(frames=8, init_cfg=dict(checkpoint=str(path)))
    with pytest.raises(CheckpointError, match='frames 4 in the card, 8 in the config'):
        other.init_weights()


def test_a_teacher_takes_no_other_grid(tmp_path):
    tensors = reference.draw(reference.pretraining_shapes(*SIZES))
    found = teacher(write(tmp_path / 'a.pth', tensors), grid=8)
    assert found.token_grid == (2, 2, 2) and found.input_size is None
    assert not any(p.requires_grad for p in found.parameters()) and not found.train().training


def test_names():
    assert split_name('amd_video_small') == ('amd', 'video_small')
    assert network_type('video_base') == 'MaskedVideoViT'
    assert sample_name('video_large') == 'sample_video_large'
    assert display_name('video_small') == 'Video-ViT-S/16'
