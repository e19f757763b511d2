"""What files hold: layouts of every family and of transformers, told apart by content."""

import json

import pytest
import timm
import torch
import torch.nn.functional as F
from safetensors.torch import save_file

from backbones import CheckpointError, MaskedViT, build_teacher
from backbones.contents import detect_family, find_networks, fixed_positions, infer_architecture
from comad.methods.parts.positions import sincos_positions

SMALL = dict(arch='sample_base')
GRID = 8


def network(first=None, **options):
    torch.manual_seed(0)
    tensors = MaskedViT(**{**SMALL, **options}).state_dict()
    if first:
        tensors['pos_embed'] = sincos_positions(tensors['cls_token'].shape[-1], GRID, first)
    return tensors


def below(prefix, tensors):
    return {prefix + name: tensor for name, tensor in tensors.items()}


def in_transformers(tensors, prefix='', version=1):
    """The inverse of what transformers' own converters do, written down independently."""
    out = {}
    width = tensors['cls_token'].shape[-1]
    plain = {
        'cls_token': 'embeddings.cls_token',
        'pos_embed': 'embeddings.position_embeddings',
        'mask_token': 'embeddings.mask_token',
        'reg_token': 'embeddings.register_tokens',
        'norm.weight': 'layernorm.weight',
        'norm.bias': 'layernorm.bias',
        'patch_embed.proj.weight': 'embeddings.patch_embeddings.projection.weight',
        'patch_embed.proj.bias': 'embeddings.patch_embeddings.projection.bias',
    }
    inner = {
        'attn.proj': 'attention.output.dense',
        'norm1': 'layernorm_before' if version == 1 else 'norm1',
        'norm2': 'layernorm_after' if version == 1 else 'norm2',
        'mlp.fc1': 'intermediate.dense' if version == 1 else 'mlp.fc1',
        'mlp.fc2': 'output.dense' if version == 1 else 'mlp.fc2',
    }
    for name, tensor in tensors.items():
        if name in plain:
            out[prefix + plain[name]] = tensor
            continue
        _, block, rest = name.split('.', 2)
        part, leaf = rest.rsplit('.', 1)
        layer = f'{prefix}encoder.layer.{block}.'
        if part == 'attn.qkv':
            for piece, chunk in zip(('query', 'key', 'value'), tensor.split(width), strict=True):
                out[f'{layer}attention.attention.{piece}.{leaf}'] = chunk.clone()
        elif part in ('ls1', 'ls2'):
            out[f'{layer}layer_scale{part[-1]}.lambda1'] = tensor
        else:
            out[f'{layer}{inner[part]}.{leaf}'] = tensor
    return out


def files():
    """Content -> the family that it must be taken for."""
    learned = network()
    head = {'head.0.weight': torch.zeros(2, 2)}
    student = below('module.backbone.', {**learned, 'masked_embed': torch.zeros(1, 128)})
    teacher = {**below('backbone.', learned), 'head.mlp.0.weight': torch.zeros(2)}
    plain = below('module.backbone.', learned)
    scaled = network(layer_scale=0.5)
    registers = network(layer_scale=0.5, reg_tokens=4)
    registers['register_tokens'] = registers.pop('reg_token')
    moco = below('module.base_encoder.', {**network('h'), **head})
    decoder = {'decoder.decoder_pos_embed': torch.zeros(1, 65, 8)}
    return {
        'mae': (dict(model=network('w')), 'mae'),
        'mae with decoder': (dict(model={**network('w'), 'decoder_pred.bias': head}), 'mae'),
        'mae in timm': (network('w'), 'mae'),
        'mae in transformers': ({**in_transformers(network('w'), 'vit.'), **decoder}, 'mae'),
        'moco': (dict(state_dict=moco, arch='vit_base', epoch=300), 'mocov3'),
        'moco in timm': (network('h'), 'mocov3'),
        'ibot': (dict(teacher=teacher, student=student), 'ibot'),
        'ibot teacher only': (dict(state_dict=learned), 'ibot'),
        'dino': (dict(teacher=teacher, student=plain), 'dino'),
        'dino backbone': (learned, 'dino'),
        'dino in transformers': (
            {**in_transformers(learned), 'pooler.dense.bias': torch.zeros(128)},
            'dino',
        ),
        'dinov2': ({**scaled, 'mask_token': torch.zeros(1, 128)}, 'dinov2'),
        'dinov2 with registers': (registers, 'dinov2'),
        'dinov2 in transformers': (in_transformers(scaled, version=2), 'dinov2'),
    }


@pytest.mark.parametrize('layout', files())
def test_family_and_network_are_told_by_content(tmp_path, layout):
    content, family = files()[layout]
    torch.save(content, tmp_path / 'file.pth')
    shape = dict(patch_size=8, img_size=64) if family == 'dinov2' else {}
    teacher = build_teacher('auto', tmp_path / 'file.pth', **SMALL, **shape)
    assert teacher.card['family'] == family
    scale = dict(layer_scale=0.5) if family == 'dinov2' else {}
    tokens = dict(reg_tokens=4) if 'registers' in layout else {}
    first = {'mae': 'w', 'mocov3': 'h'}.get(family)
    expected = network(first, **scale, **tokens)
    actual = teacher.state_dict()
    assert actual.keys() == expected.keys()
    assert all(torch.equal(actual[name], expected[name]) for name in expected)


@pytest.mark.parametrize(
    ('content', 'message'),
    [
        (dict(weights=torch.ones(3)), 'no ViT that is known'),
        (dict(network(), **{'head.weight': torch.zeros(2, 128)}), 'head.weight: a classifier'),
        (dict(model=dict(network('w'), **{'fc_norm.weight': torch.ones(128)})), 'fc_norm.weight'),
    ],
)
def test_what_cannot_be_told_is_said(tmp_path, content, message):
    torch.save(content, tmp_path / 'file.pth')
    with pytest.raises(CheckpointError, match=f'file.pth: its family cannot be told: .*{message}'):
        build_teacher('auto', tmp_path / 'file.pth', **SMALL)


def test_positions_tell_their_origin():
    assert fixed_positions(sincos_positions(32, 5, 'w')) == 'w'
    assert fixed_positions(sincos_positions(32, 5, 'h')) == 'h'
    assert fixed_positions(torch.randn(1, 26, 32)) is None
    assert fixed_positions(torch.randn(1, 24, 32)) is None  # no square grid


def test_architecture_is_read_off_the_tensors():
    shape = infer_architecture(network(depth=3))
    assert shape == dict(img_size=64, patch_size=8, embed_dim=128, depth=3)
    with pytest.raises(CheckpointError, match='no pos_embed'):
        infer_architecture({'cls_token': torch.zeros(1, 1, 8)})


def test_evidence_is_a_phrase():
    content = network()
    family, evidence = detect_family(content, find_networks(content))
    assert family == 'dino' and "iBOT's or timm's" in evidence


def test_pins(tmp_path):
    path = tmp_path / 'mae.pth'
    torch.save(dict(model=network('w')), path)
    import hashlib

    md5 = hashlib.md5(path.read_bytes()).hexdigest()
    sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
    build_teacher('mae', path, **SMALL, md5=md5[:6].upper(), sha256=sha256)
    with pytest.raises(CheckpointError, match=f'md5 {md5[:12]}, expected 8cad7c'):
        build_teacher('mae', path, **SMALL, md5='8cad7c')
    with pytest.raises(ValueError, match='at least 6'):
        build_teacher('mae', path, **SMALL, md5='abc')


def test_a_directory_stands_for_its_only_weight_file(tmp_path):
    with pytest.raises(CheckpointError, match='directory with none of'):
        build_teacher('mae', tmp_path, **SMALL)
    torch.save(dict(model=network('w')), tmp_path / 'a.pth')
    assert build_teacher('mae', tmp_path, **SMALL).card['file'] == 'a.pth'
    torch.save({}, tmp_path / 'b.pth')
    with pytest.raises(CheckpointError, match=r'directory with a.pth, b.pth'):
        build_teacher('mae', tmp_path, **SMALL)
    save_file(network('w'), tmp_path / 'model.safetensors')
    (tmp_path / 'config.json').write_text(json.dumps({}))
    assert build_teacher('mae', tmp_path, **SMALL).card['file'] == 'model.safetensors'


# Forward conventions --------------------------------------------------------------------------


def dinov2_features(tensors, images, heads):
    """DINOv2's forward pass written out: positions on cls and patches, registers in between."""
    patch = tensors['patch_embed.proj.weight'].shape[-1]
    x = F.conv2d(
        images, tensors['patch_embed.proj.weight'], tensors['patch_embed.proj.bias'], patch
    )
    x = x.flatten(2).transpose(1, 2)
    x = torch.cat([tensors['cls_token'].expand(len(x), -1, -1), x], 1) + tensors['pos_embed']
    registers = tensors['reg_token'].expand(len(x), -1, -1)
    x = torch.cat([x[:, :1], registers, x[:, 1:]], 1)
    width = x.shape[-1]

    def norm(x, name):
        return F.layer_norm(x, (width,), tensors[f'{name}.weight'], tensors[f'{name}.bias'], 1e-6)

    def linear(x, name):
        return F.linear(x, tensors[f'{name}.weight'], tensors[f'{name}.bias'])

    depth = infer_architecture(tensors)['depth']
    for i in range(depth):
        y = linear(norm(x, f'blocks.{i}.norm1'), f'blocks.{i}.attn.qkv')
        q, k, v = y.view(*y.shape[:2], 3, heads, -1).permute(2, 0, 3, 1, 4)
        y = (q @ k.transpose(-1, -2) * q.shape[-1] ** -0.5).softmax(-1) @ v
        y = linear(y.transpose(1, 2).flatten(2), f'blocks.{i}.attn.proj')
        x = x + tensors[f'blocks.{i}.ls1.gamma'] * y
        y = F.gelu(linear(norm(x, f'blocks.{i}.norm2'), f'blocks.{i}.mlp.fc1'))
        x = x + tensors[f'blocks.{i}.ls2.gamma'] * linear(y, f'blocks.{i}.mlp.fc2')
    x = norm(x, 'norm')
    return torch.cat([x[:, :1], x[:, 1 + registers.shape[1] :]], 1)


def test_dinov2_with_registers_equals_its_formula(tmp_path):
    tensors = network(layer_scale=0.5, reg_tokens=4)
    tensors = {name: tensor + 0.05 * torch.randn_like(tensor) for name, tensor in tensors.items()}
    torch.save(tensors, tmp_path / 'v2.pth')
    teacher = build_teacher('dinov2', tmp_path / 'v2.pth', **SMALL, patch_size=8, img_size=64)
    images = torch.randn(2, 3, 64, 64)
    expected = dinov2_features(tensors, images, heads=4)
    torch.testing.assert_close(teacher.tokens(images), expected, atol=2e-5, rtol=0)
    layers = teacher.tokens(images, layers=[3])[0]
    assert layers.shape == expected.shape
    torch.testing.assert_close(teacher.norm(layers), expected, atol=2e-5, rtol=0)


def test_positions_of_dinov2_are_resized_by_its_two_rules(tmp_path):
    for registers, rule in (
        (0, dict(scale_factor=4.1 / 8)),
        (4, dict(size=(4, 4), antialias=True)),
    ):
        tensors = network(layer_scale=0.5, reg_tokens=registers)
        torch.save(tensors, tmp_path / 'v2.pth')
        teacher = build_teacher('dinov2', tmp_path / 'v2.pth', **SMALL, patch_size=8, img_size=64)
        table = tensors['pos_embed'][:, 1:].view(1, 8, 8, -1).permute(0, 3, 1, 2)
        expected = F.interpolate(table, mode='bicubic', **rule).flatten(2).transpose(1, 2)
        assert torch.equal(teacher._positions((4, 4))[:, 1:], expected)


def test_a_teacher_of_another_patch_size_fits_the_grid(tmp_path):
    torch.save(network(), tmp_path / 'dino.pth')
    teacher = build_teacher('dino', tmp_path / 'dino.pth', **SMALL, grid=4)
    assert teacher.token_grid == (4, 4) and teacher.card['input_size'] == 32
    images = torch.randn(2, 3, 56, 56)
    small = F.interpolate(images, (32, 32), mode='bicubic', antialias=True)
    assert teacher.tokens(images).shape == (2, 17, 128)
    torch.testing.assert_close(teacher.tokens(images), teacher.tokens(small))


@pytest.mark.parametrize(
    ('model', 'options'),
    [
        ('vit_base_patch16_clip_224.openai', dict(depth=2, embed_dim=64, num_heads=2)),
        ('deit_tiny_patch16_224', dict(depth=2)),
        ('vit_small_patch14_reg4_dinov2', dict(depth=2, img_size=224)),
        ('vit_base_patch16_224_miil', dict(depth=1, embed_dim=32, num_heads=2)),
    ],
)
def test_timm_models_equal_timm(tmp_path, model, options):
    torch.manual_seed(0)
    reference = timm.create_model(model, num_classes=7, **options).eval()
    save_file(reference.state_dict(), tmp_path / 'model.safetensors')
    teacher = build_teacher('timm', tmp_path, model=model, **options)
    images = torch.randn(2, 3, 224, 224)  # normalised by ImageNet's statistics
    cfg = reference.pretrained_cfg
    mean, std = (
        torch.tensor(v).view(3, 1, 1) for v in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    )
    own = [torch.tensor(cfg[name]).view(3, 1, 1) for name in ('mean', 'std')]
    with torch.no_grad():
        x = reference.forward_features(((images * std + mean) - own[0]) / own[1])
        x = reference.fc_norm(x)
    prefix = reference.num_prefix_tokens
    expected = torch.cat([x[:, :1], x[:, prefix:]], 1)
    torch.testing.assert_close(teacher.tokens(images), expected, atol=2e-4, rtol=1e-4)
    keep = torch.stack([torch.randperm(expected.shape[1] - 1)[:9] for _ in images])
    assert teacher.tokens(images, keep).shape == (2, 10, expected.shape[-1])
    every = torch.arange(expected.shape[1] - 1).expand(2, -1)
    torch.testing.assert_close(teacher.tokens(images, every), expected, atol=2e-4, rtol=1e-4)
    raw = teacher.tokens(images, layers=[0])
    assert raw[0].shape == expected.shape
    teacher.train()
    teacher.init_weights()
    assert not any(p.requires_grad for p in teacher.parameters())
    assert not any(module.training for module in teacher.modules())
    assert teacher.digest() == teacher.card['digest']


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        (dict(family='timm', model='vit_base_of_nobody'), 'timm cannot build'),
        (dict(family='timm', model='vgg11', depth=2), 'timm cannot build'),
        (dict(family='timm'), "family='timm'"),
        (dict(family='mae', model='deit_tiny_patch16_224'), "family='timm'"),
        (dict(family='clip'), 'known: mae'),
    ],
)
def test_bad_options_are_named(tmp_path, options, message):
    torch.save(dict(model=network('w')), tmp_path / 'mae.pth')
    with pytest.raises(ValueError, match=message):
        build_teacher(checkpoint=tmp_path / 'mae.pth', **options)
