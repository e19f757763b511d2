"""MaskedViT against timm, against attention masks and against loop-written windows."""

import pytest
import timm
import torch
import torch.nn.functional as F
from torch import nn

from backbones import MaskedViT
from backbones.student import StudentWeights

TINY = dict(arch='sample_tiny')


@pytest.fixture
def images():
    return torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))


def test_tokens_equal_timm(images):
    vit = MaskedViT(**TINY).eval()
    reference = timm.create_model(
        'vit_tiny_patch16_224',
        img_size=64,
        patch_size=8,
        embed_dim=64,
        depth=4,
        num_heads=2,
        num_classes=0,
        global_pool='',
    ).eval()
    reference.load_state_dict(vit.state_dict())
    torch.testing.assert_close(vit.tokens(images), reference(images))


def test_architectures_have_the_published_sizes():
    parameters = {
        arch: sum(p.numel() for p in MaskedViT(arch).parameters()) for arch in ('tiny', 'base')
    }
    assert parameters == {'tiny': 5_524_416, 'base': 85_798_656}
    assert len(MaskedViT('base').state_dict()) == 150


def test_dropped_patches_equal_masked_attention(images):
    """Running only the kept tokens is running all of them with the dropped ones masked as keys."""
    vit = MaskedViT(**TINY).eval()
    keep = torch.stack([torch.randperm(64)[:16] for _ in images])
    tokens = vit.tokens(images, keep)

    allowed = torch.zeros(2, 65, dtype=torch.bool).scatter(1, keep + 1, True)
    allowed[:, 0] = True
    x = vit.embed(images)
    for block in vit.blocks:
        x = x + block.attn(block.norm1(x), attn_mask=allowed[:, None, None, :])
        x = x + block.mlp(block.norm2(x))
    expected = vit.norm(x)
    picked = torch.cat([torch.zeros(2, 1, dtype=torch.long), keep + 1], 1)
    expected = expected.gather(1, picked[..., None].expand(-1, -1, 64))
    torch.testing.assert_close(tokens, expected, atol=1e-5, rtol=1e-5)


def test_layers_are_raw_block_outputs(images):
    vit = MaskedViT(**TINY).eval()
    third, first = vit.tokens(images, layers=[3, 1])
    torch.testing.assert_close(vit.norm(third), vit.tokens(images))
    torch.testing.assert_close(first, vit.blocks[1](vit.blocks[0](vit.embed(images))))


def test_qkv_reproduces_the_block(images):
    vit = MaskedViT(**TINY).eval()
    x = vit.embed(images)
    q, k, v = vit.qkv(x, 0)
    weights = (q @ k.transpose(-2, -1) / q.shape[-1] ** 0.5).softmax(-1)
    attended = (weights @ v).transpose(1, 2).flatten(2)
    torch.testing.assert_close(
        vit.blocks[0].attn.proj(attended),
        vit.blocks[0].attn(vit.blocks[0].norm1(x)),
        atol=1e-5,
        rtol=1e-5,
    )


def test_maps_are_the_patch_tokens_in_raster_order():
    vit = MaskedViT(**TINY, out_indices=(1, 3), out_norm=True).eval()
    images = torch.randn(1, 3, 48, 80)
    maps = vit(images)
    assert [tuple(m.shape) for m in maps] == [(1, 64, 6, 10)] * 2
    torch.testing.assert_close(maps[1].flatten(2).transpose(1, 2), vit.tokens(images)[:, 1:])


@pytest.mark.parametrize('rule', ['bicubic', 'bicubic_offset'])
def test_position_table_follows_the_family_rule(rule):
    vit = MaskedViT(**TINY, pos_interpolation=rule)
    table = vit.pos_embed[:, 1:].reshape(1, 8, 8, 64).permute(0, 3, 1, 2)
    if rule == 'bicubic':
        expected = F.interpolate(table, size=(6, 10), mode='bicubic', antialias=False)
    else:
        expected = F.interpolate(table, scale_factor=(6.1 / 8, 10.1 / 8), mode='bicubic')
    actual = vit._positions((6, 10))
    torch.testing.assert_close(actual[:, 1:], expected.flatten(2).transpose(1, 2))
    torch.testing.assert_close(actual[:, :1], vit.pos_embed[:, :1])
    assert vit._positions((8, 8)) is vit.pos_embed


def test_windows_equal_a_loop_over_windows():
    """Padding with zeros after norm1, as ViTDet does: each window computed on its own."""
    vit = MaskedViT(
        **TINY, out_indices=(3,), window_size=3, global_blocks=(0, 1, 3), with_cls=False
    ).eval()
    block, (height, width) = vit.blocks[2], (8, 7)
    x = torch.randn(1, height * width, 64)
    y = block.norm1(x).view(height, width, 64)
    padded = torch.zeros(9, 9, 64)
    padded[:height, :width] = y
    out = torch.zeros(9, 9, 64)
    for top in range(0, 9, 3):
        for left in range(0, 9, 3):
            window = padded[top : top + 3, left : left + 3].reshape(1, 9, 64)
            out[top : top + 3, left : left + 3] = block.attn(window).view(3, 3, 64)
    expected = x + out[:height, :width].reshape(1, -1, 64)
    expected = expected + block.mlp(block.norm2(expected))
    torch.testing.assert_close(vit.run(x, 2, 3, (height, width)), expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(
    'options',
    [
        dict(out_indices=(0, 1, 2, 3)),
        dict(out_indices=(3,), window_size=4, global_blocks=(1, 3), with_cls=False),
        dict(out_indices=(0, 2)),
        dict(out_indices=(3,), out_norm=True),
    ],
)
def test_every_trainable_parameter_gets_a_gradient(images, options):
    vit = MaskedViT(**TINY, **options)
    sum(m.square().mean() for m in vit(images)).backward()
    without = [n for n, p in vit.named_parameters() if p.requires_grad and p.grad is None]
    assert without == []


def test_mask_token_replaces_patches_before_positions(images):
    vit = MaskedViT(**TINY, use_mask_token=True)
    mask = torch.zeros(2, 64, dtype=torch.bool)
    mask[:, 5] = True
    tokens = vit.embed(images, mask=mask)
    torch.testing.assert_close(tokens[0, 6], vit.mask_token[0, 0] + vit.pos_embed[0, 6])
    torch.testing.assert_close(tokens[:, 7:], vit.embed(images)[:, 7:])


def test_frozen_network_stays_in_eval_mode():
    vit = MaskedViT(**TINY, frozen=True)
    assert not vit.training  # before anybody has told it
    holder = nn.ModuleList([vit]).train()
    assert holder.training and not vit.training
    assert not any(p.requires_grad for p in vit.parameters())


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        (dict(arch='nano'), "arch 'nano' is unknown"),
        (dict(out_indices=(4,)), 'block 4 does not exist'),
        (dict(out_indices=(3, 1)), 'must be increasing'),
        (dict(window_size=4), 'with_cls=False'),
        (dict(pos_interpolation='nearest'), 'pos_interpolation'),
        (dict(init_cfg=dict(type='Pretrained', checkpoint='x')), "'Pretrained' is not supported"),
        (dict(init_cfg=dict(type='StudentWeights', name='x')), "init_cfg key 'name' is unknown"),
        (dict(init_cfg=dict(type='StudentWeights')), 'either student'),
        (dict(init_cfg=dict(type='StudentWeights', student='../x')), 'not of the form'),
    ],
)
def test_wrong_arguments_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        MaskedViT(**{**TINY, **options})


def test_image_sides_must_fit_the_patches():
    with pytest.raises(ValueError, match='60x64 is not a multiple of the patch size 8'):
        MaskedViT(**TINY)(torch.zeros(1, 3, 60, 64))


def test_scratch_students_have_no_file():
    assert StudentWeights.from_cfg(dict(student='scratch_tiny')).path is None
    path = StudentWeights.from_cfg(dict(student='comad_tiny', seed=2)).path
    assert path.as_posix() == 'work_dirs/pretrain/comad_tiny/seed2/student.safetensors'
