"""Teachers of every family that timm builds: whole files, hidden patches, other grids, folders."""

import json

import pytest
import timm
import torch
from safetensors.torch import save_file

from backbones import CheckpointError, build_teacher, untrained_teachers

WIDE = dict(depth=2, embed_dim=64, num_heads=2, img_size=64)
TINY = {
    'dinov3': ('vit_base_patch16_dinov3', WIDE),
    'siglip2': ('vit_base_patch16_siglip_224', WIDE),
    'clip': ('vit_base_patch16_clip_224', WIDE),
    'eva02': ('eva02_tiny_patch14_224', dict(depth=2, embed_dim=48, num_heads=2, img_size=56)),
    'mixed': ('vit_small_patch16_rope_mixed_224', WIDE),
    'swin': (
        'swin_tiny_patch4_window7_224',
        dict(depths=(1, 1, 1, 1), embed_dim=24, num_heads=(1, 1, 2, 4), img_size=64, window_size=2),
    ),
    'convnext': ('convnext_atto', dict(depths=(1, 1, 1, 1), dims=(8, 16, 32, 64))),
    'resnet': ('resnet18', dict(layers=(1, 1, 1, 1), channels=(8, 16, 32, 64))),
}
DROPPING = ('dinov3', 'siglip2', 'clip', 'eva02', 'mixed')


def reference(kind, classes=0):
    model, options = TINY[kind]
    torch.manual_seed(0)
    network = timm.create_model(model, num_classes=classes, **options).eval()
    for parameter in network.parameters():  # layer scales and class tokens start near zero
        parameter.data += 0.05 * torch.randn_like(parameter)
    return network


def teacher_of(kind, folder, **more):
    model, options = TINY[kind]
    return build_teacher('timm', folder, model=model, **{**options, **more})


def own_images(network, images):
    """Images that ImageNet's statistics normalised, by the network's."""
    mean, std = (
        torch.tensor(v).view(3, 1, 1) for v in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    )
    own = [torch.tensor(network.pretrained_cfg[name]).view(3, 1, 1) for name in ('mean', 'std')]
    return (images * std + mean - own[0]) / own[1]


@pytest.mark.parametrize('kind', TINY)
@torch.no_grad()
def test_tokens_are_timms_and_kept_ones_are_where_they_were(kind, tmp_path):
    network = reference(kind, classes=5)  # with a classifier, which is left out
    save_file(network.state_dict(), tmp_path / 'model.safetensors')
    teacher = teacher_of(kind, tmp_path)
    images = torch.randn(2, 3, *(teacher.img_size,) * 2)
    found = teacher.tokens(images)
    x = network.forward_features(own_images(network, images))
    if x.dim() == 4:
        x = network.head.norm(x) if kind == 'convnext' else x
        cells = x.flatten(1, 2) if kind == 'swin' else x.flatten(2).mT
        first = cells.mean(1)
    else:
        x = network.fc_norm(x)
        cells = x[:, network.num_prefix_tokens :]
        first = x[:, 0] if network.cls_token is not None else network.attn_pool(cells)
    torch.testing.assert_close(found[:, 1:], cells, atol=2e-5, rtol=1e-4)
    torch.testing.assert_close(found[:, 0], first, atol=2e-5, rtol=1e-4)
    N = cells.shape[1]
    order = torch.stack([torch.randperm(N) for _ in images])
    mixed = teacher.tokens(images, order)[:, 1:]
    wanted = cells.gather(1, order[..., None].expand_as(cells))
    torch.testing.assert_close(mixed, wanted, atol=2e-5, rtol=1e-4)
    assert teacher.drops == (kind in DROPPING)
    assert teacher.card.get('sees') == (None if teacher.drops else 'whole image')
    assert teacher.unchanged() and not any(p.requires_grad for p in teacher.parameters())


@pytest.mark.parametrize('kind', DROPPING)
@torch.no_grad()
def test_hidden_patches_are_never_read(kind, tmp_path):
    save_file(reference(kind).state_dict(), tmp_path / 'model.safetensors')
    teacher = teacher_of(kind, tmp_path)
    images, keep = torch.randn(1, 3, *(teacher.img_size,) * 2), torch.tensor([[0, 5, 6]])
    found = teacher.tokens(images, keep)
    hidden, p = images.clone(), teacher.patch_size
    hidden[:, :, -p:] = 7.0  # the last row of patches
    assert found.shape[1] == 4 and torch.equal(teacher.tokens(hidden, keep), found)
    assert not torch.allclose(teacher.tokens(images)[:, 1:2], found[:, 1:2])


@pytest.mark.parametrize('kind', ['dinov3', 'swin', 'resnet'])
@torch.no_grad()
def test_bfloat16_keeps_rotary_angles_and_stays_close(kind, tmp_path):
    save_file(reference(kind).state_dict(), tmp_path / 'model.safetensors')
    teacher, images = teacher_of(kind, tmp_path), torch.randn(2, 3, 64, 64)
    exact = teacher.tokens(images)
    rope = {k: v.clone() for k, v in teacher.named_buffers() if 'rope' in k}
    with torch.autocast('cpu', torch.bfloat16):
        found = teacher.tokens(images)
    assert found.dtype == torch.bfloat16 and teacher.unchanged()
    assert all(torch.equal(dict(teacher.named_buffers())[k], v) for k, v in rope.items())
    error = (found.float() - exact).norm() / exact.norm()
    assert error < 0.05, error


@torch.no_grad()
def test_a_map_of_another_grid_is_averaged_or_interpolated(tmp_path):
    save_file(reference('resnet').state_dict(), tmp_path / 'model.safetensors')
    images = torch.randn(2, 3, 128, 128)
    own = teacher_of('resnet', tmp_path, grid=4).tokens(images)[:, 1:].mT.unflatten(2, (4, 4))
    coarse = teacher_of('resnet', tmp_path, grid=2).tokens(images)[:, 1:]
    wanted = own.unflatten(2, (2, 2)).unflatten(4, (2, 2)).mean((3, 5)).flatten(2).mT
    torch.testing.assert_close(coarse, wanted)
    fine = teacher_of('resnet', tmp_path, grid=8).tokens(images)[:, 1:]
    assert fine.shape == (2, 64, 64)
    corner = own[:, :, 0, 0]  # a corner of the finer grid lies beyond the last cell's centre
    torch.testing.assert_close(fine[:, 0], corner)
    keep = torch.tensor([[63, 0], [1, 2]])
    some = teacher_of('resnet', tmp_path, grid=8).tokens(images, keep)[:, 1:]
    torch.testing.assert_close(some, fine.gather(1, keep[..., None].expand_as(some)))


@torch.no_grad()
def test_several_patches_make_a_cell_of_a_students_map(tmp_path):
    """A student of stride 32 and a ViT with patches of 16: 2 x 2 patches each, their mean."""
    save_file(reference('siglip2').state_dict(), tmp_path / 'model.safetensors')
    teacher = teacher_of('siglip2', tmp_path, grid=2, cell=32)
    images = torch.randn(2, 3, 64, 64)
    own = teacher_of('siglip2', tmp_path).tokens(images)[:, 1:].unflatten(1, (2, 2, 2, 2))
    wanted = own.mean((2, 4)).flatten(1, 2)
    torch.testing.assert_close(teacher.tokens(images)[:, 1:], wanted, atol=2e-5, rtol=1e-4)
    assert teacher.token_grid == (2, 2) and teacher.input_size is None
    found = teacher.tokens(images, torch.tensor([[3], [0]]))
    assert found.shape == (2, 2, 64)
    hidden = images.clone()
    hidden[0, :, :32] = 3.0  # the upper cells, which image 0 does not keep
    assert torch.equal(teacher.tokens(hidden, torch.tensor([[3], [0]]))[0], found[0])


WRAPPED = {
    'compiled': (lambda t: {f'_orig_mod.{k}': v for k, v in t.items()}, ''),
    'parallel': (lambda t: dict(model={f'module.{k}': v for k, v in t.items()}), 'module.'),
    'lightning': (
        lambda t: dict(state_dict={f'model.net.{k}': v for k, v in t.items()}, epoch=1),
        'model.net.',
    ),
    'average': (
        lambda t: dict(state_dict={k: v + 1 for k, v in t.items()}, state_dict_ema=t),
        "read from 'state_dict_ema'",
    ),
    'beside': (
        lambda t: dict(
            state_dict={f'model.{k}': v for k, v in t.items()} | {'loss.weight': torch.ones(2)}
        ),
        'prefix model. taken off',
    ),
}


@pytest.mark.parametrize('kind', ['dinov3', 'resnet'])
@pytest.mark.parametrize('wrapper', WRAPPED)
def test_prefixes_of_training_codes_are_taken_off_and_said(wrapper, kind, tmp_path):
    tensors = reference(kind).state_dict()
    wrap, said = WRAPPED[wrapper]
    torch.save(wrap(tensors), tmp_path / 'x.pth')
    teacher = teacher_of(kind, tmp_path / 'x.pth')
    assert all(torch.equal(v, tensors[k]) for k, v in teacher.net.state_dict().items())
    assert said in teacher.card.get('read', '') and '\n' not in teacher.card.get('read', '')


def test_a_folder_tells_network_and_statistics(tmp_path):
    model, options = TINY['siglip2']
    tensors = reference('siglip2').state_dict()
    save_file(tensors, tmp_path / 'model.safetensors')
    config = dict(
        architecture=model,
        model_args=options,
        pretrained_cfg=dict(mean=[0.1, 0.2, 0.3], std=[0.4, 0.5, 0.6]),
    )
    (tmp_path / 'config.json').write_text(json.dumps(config))
    teacher = build_teacher('timm', tmp_path, name='siglip2')
    assert teacher.card['family'] == 'siglip2' and teacher.grid_size == (4, 4)
    scale, shift = (torch.tensor(v) for v in teacher.statistics)
    pixel = torch.tensor([0.485, 0.456, 0.406])  # black minus its mean is 0 in ImageNet's terms
    torch.testing.assert_close(
        shift, (pixel - torch.tensor([0.1, 0.2, 0.3])) / torch.tensor([0.4, 0.5, 0.6])
    )
    torch.testing.assert_close(
        scale, torch.tensor([0.229, 0.224, 0.225]) / torch.tensor([0.4, 0.5, 0.6])
    )
    with untrained_teachers():
        assert build_teacher('timm', tmp_path).grid_size == (4, 4)
    parts = dict(list(tensors.items())[:5]), dict(list(tensors.items())[5:])
    (tmp_path / 'model.safetensors').unlink()
    places = {}
    for number, part in enumerate(parts, 1):
        name = f'model-{number:05}-of-00002.safetensors'
        save_file(part, tmp_path / name)
        places |= dict.fromkeys(part, name)
    (tmp_path / 'model.safetensors.index.json').write_text(json.dumps(dict(weight_map=places)))
    assert build_teacher('timm', tmp_path).digest() == teacher.digest()


def official_dinov3(tensors, bias=0.0):
    """timm's tensors under the names of the official files, with what stands beside them."""
    renamed = {'mask_token': torch.zeros(1, 64), 'rope_embed.periods': torch.ones(8)}
    for name, tensor in tensors.items():
        name = name.replace('reg_token', 'storage_tokens')
        for half in '12':
            name = name.replace(f'gamma_{half}', f'ls{half}.gamma')
        renamed[name] = tensor
    for block in range(2):
        renamed[f'blocks.{block}.attn.qkv.bias'] = torch.full((192,), bias)
        renamed[f'blocks.{block}.attn.qkv.bias_mask'] = torch.ones(192)
    return renamed


def hub_dinov3(tensors):
    """The same under the names of transformers."""
    renamed = {}
    for name, tensor in tensors.items():
        for ours, theirs in (
            ('cls_token', 'embeddings.cls_token'),
            ('reg_token', 'embeddings.register_tokens'),
            ('patch_embed.proj', 'embeddings.patch_embeddings'),
            ('blocks.', 'layer.'),
            ('attn.proj', 'attention.o_proj'),
            ('mlp.fc1', 'mlp.up_proj'),
            ('mlp.fc2', 'mlp.down_proj'),
            ('gamma_1', 'layer_scale1.lambda1'),
            ('gamma_2', 'layer_scale2.lambda1'),
        ):
            name = name.replace(ours, theirs)
        if name.endswith(('attn.q_bias', 'attn.v_bias')):
            stem, kind = name.rsplit('attn.', 1)
            renamed[f'{stem}attention.{kind[0]}_proj.bias'] = tensor
        elif 'attn.qkv' in name:
            for part, value in zip('qkv', tensor.chunk(3), strict=True):
                renamed[name.replace('attn.qkv', f'attention.{part}_proj')] = value.clone()
        else:
            renamed[name] = tensor
    return renamed


def hub_siglip(tensors):
    """timm's SigLIP under the names of transformers, with a text tower beside it."""
    renamed = {'logit_scale': torch.ones(1), 'text_model.head.weight': torch.ones(2, 2)}
    for name, tensor in tensors.items():
        for ours, theirs in (
            ('patch_embed.proj', 'embeddings.patch_embedding'),
            ('attn_pool.latent', 'head.probe'),
            ('attn_pool.proj', 'head.attention.out_proj'),
            ('attn_pool.norm', 'head.layernorm'),
            ('attn_pool.mlp', 'head.mlp'),
            ('blocks.', 'encoder.layers.'),
            ('attn.proj', 'self_attn.out_proj'),
            ('.norm1', '.layer_norm1'),
            ('.norm2', '.layer_norm2'),
        ):
            name = name.replace(ours, theirs)
        if name.startswith('norm.'):
            name = f'post_layernorm.{name[5:]}'
        if name == 'pos_embed':
            renamed['vision_model.embeddings.position_embedding.weight'] = tensor[0].clone()
        elif name.startswith('attn_pool.'):
            continue
        elif 'attn.qkv' in name:
            for part, value in zip('qkv', tensor.chunk(3), strict=True):
                other = name.replace('attn.qkv', f'self_attn.{part}_proj')
                renamed[f'vision_model.{other}'] = value.clone()
        else:
            renamed[f'vision_model.{name}'] = tensor
    for kind in ('weight', 'bias'):
        both = [tensors[f'attn_pool.{part}.{kind}'] for part in ('q', 'kv')]
        renamed[f'vision_model.head.attention.in_proj_{kind}'] = torch.cat(both)
    return renamed


SIZES = dict(
    hidden_size=64,
    intermediate_size=256,
    num_hidden_layers=2,
    num_attention_heads=2,
    image_size=64,
    hidden_act='gelu',
)


@torch.no_grad()
def test_layouts_of_others_fill_the_same_network(tmp_path):
    images = torch.randn(2, 3, 64, 64)
    network = reference('dinov3').state_dict()
    save_file(network, tmp_path / 'timm.safetensors')
    wanted = teacher_of('dinov3', tmp_path / 'timm.safetensors').tokens(images)
    torch.save(official_dinov3(network), tmp_path / 'official.pth')
    assert torch.equal(teacher_of('dinov3', tmp_path / 'official.pth').tokens(images), wanted)
    hub = tmp_path / 'hub'
    hub.mkdir()
    save_file(hub_dinov3(network), hub / 'model.safetensors')
    config = dict(SIZES, model_type='dinov3_vit')
    bare = dict(query_bias=False, value_bias=False)
    (hub / 'config.json').write_text(json.dumps(config | bare))
    assert torch.equal(build_teacher('dinov3_vitb16', hub).tokens(images), wanted)
    # The usual configuration has biases of query and value, zero or not.
    network = timm.create_model('vit_base_patch16_dinov3_qkvb', num_classes=0, **WIDE).eval()
    for parameter in network.parameters():
        parameter.data += 0.05 * torch.randn_like(parameter)
    save_file(hub_dinov3(network.state_dict()), hub / 'model.safetensors')
    (hub / 'config.json').write_text(json.dumps(config))
    found = build_teacher('timm', hub).tokens(images)
    assert torch.equal(found[:, 1:], network.forward_features(images)[:, 5:])
    network = reference('siglip2').state_dict()
    save_file(network, tmp_path / 'timm.safetensors')
    wanted = teacher_of('siglip2', tmp_path / 'timm.safetensors').tokens(images)
    save_file(hub_siglip(network), hub / 'model.safetensors')
    config = dict(model_type='siglip', vision_config=dict(SIZES, patch_size=16))
    (hub / 'config.json').write_text(json.dumps(config))
    teacher = build_teacher('siglip2', hub)
    assert torch.equal(teacher.tokens(images), wanted)
    assert 'names of another layout brought to those of timm' in teacher.card['read']


@torch.no_grad()
def test_positions_of_another_size_are_resampled(tmp_path):
    """A file for 64 px under a name of 224 px: the network is built for the file's images."""
    network = reference('siglip2')
    save_file(network.state_dict(), tmp_path / 'model.safetensors')
    model, options = TINY['siglip2']
    other = {k: v for k, v in options.items() if k != 'img_size'}
    teacher = build_teacher('timm', tmp_path, model=model, **other, grid=6)
    images = torch.randn(1, 3, 96, 96)
    assert teacher.grid_size == (4, 4) and teacher.tokens(images).shape == (1, 37, 64)
    dynamic = timm.create_model(model, num_classes=0, dynamic_img_size=True, **options).eval()
    dynamic.load_state_dict(network.state_dict())
    wanted = dynamic.forward_features(own_images(network, images))
    torch.testing.assert_close(teacher.tokens(images)[:, 1:], wanted, atol=2e-5, rtol=1e-4)


def bad_config(**changes):
    model, options = TINY['resnet']
    return dict(dict(architecture=model, model_args=dict(layers=[1] * 4)), **changes)


@pytest.mark.parametrize(
    ('config', 'said'),
    [
        (dict(architecture='no_such_net'), "model='no_such_net': no such name"),
        (bad_config(model_args=dict(pretrained=True)), 'model_args.pretrained is no part'),
        (bad_config(model_args=dict(checkpoint_path='/x')), 'model_args.checkpoint_path is no'),
        (dict(model_type='dinov2'), 'on the command line dinov2='),
        (dict(model_type='resnet'), "model_type 'resnet' is not read from this layout"),
        (dict(model_type='siglip', vision_config=dict(hidden_size='x')), "hidden_size 'x'"),
        (bad_config(pretrained_cfg=dict(mean=[1])), 'no statistics of three channels'),
    ],
)
def test_folders_that_say_nothing_usable_are_one_line(config, said, tmp_path):
    save_file({'x': torch.ones(1)}, tmp_path / 'model.safetensors')
    (tmp_path / 'config.json').write_text(json.dumps(config))
    with pytest.raises((ValueError, CheckpointError), match=said) as caught:
        build_teacher('timm', tmp_path)
    assert '\n' not in str(caught.value)


def test_what_does_not_fit_is_one_line_with_what_would(tmp_path):
    tensors = reference('siglip2').state_dict()
    path = tmp_path / 'x.safetensors'
    save_file(tensors, path)
    with pytest.raises(CheckpointError, match=r'positions of 4x4 patches.*img_size=64 reads it'):
        teacher_of('siglip2', path, img_size=96)
    save_file({k: v for k, v in tensors.items() if k != 'norm.bias'}, path)
    with pytest.raises(CheckpointError, match=r'1 tensors missing \(norm.bias\)'):
        teacher_of('siglip2', path)
    save_file({f'odd.{k}': v for k, v in tensors.items()}, path)
    with pytest.raises(CheckpointError, match='tensors missing'):
        teacher_of('siglip2', path)
    torch.save(official_dinov3(reference('dinov3').state_dict(), bias=1.0), tmp_path / 'b.pth')
    with pytest.raises(CheckpointError, match='q_bias is not zero.*dinov3_qkvb'):
        teacher_of('dinov3', tmp_path / 'b.pth')
    with pytest.raises(ValueError, match='has no config.json that tells the network; model='):
        build_teacher('timm', path)
    teacher = teacher_of('resnet', _saved('resnet', tmp_path))
    with pytest.raises(ValueError, match='ResNet is read after its last stage only'):
        teacher.tokens(torch.zeros(1, 3, 64, 64), layers=[1])


def _saved(kind, folder):
    save_file(reference(kind).state_dict(), folder / f'{kind}.safetensors')
    return folder / f'{kind}.safetensors'
