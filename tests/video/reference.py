"""VideoMAE and AMD on official tensor names, written out in plain operations of float64.

The order of all tokens is the one that the papers' code has: cubes are gone through slot by slot.
"""

import math

import torch
import torch.nn.functional as F

NAMES = (
    *('norm1.weight', 'norm1.bias', 'attn.q_bias', 'attn.v_bias', 'attn.qkv.weight'),
    *('attn.proj.weight', 'attn.proj.bias', 'norm2.weight', 'norm2.bias'),
    *('mlp.fc1.weight', 'mlp.fc1.bias', 'mlp.fc2.weight', 'mlp.fc2.bias'),
)


def block_shapes(prefix, width):
    """Official names of one block -> shapes."""
    shapes = [
        *([width] * 4, [3 * width, width], [width, width], [width], [width], [width]),
        *([4 * width, width], [4 * width], [width, 4 * width], [width]),
    ]
    flat = shapes[0]
    shapes = [[n] for n in flat] + shapes[1:]
    return {f'{prefix}{name}': shape for name, shape in zip(NAMES, shapes, strict=True)}


def pretraining_shapes(width, depth, decoder, decoder_depth, teacher=None, pairs=2):
    """Names and shapes of a pretraining file: VideoMAE's, or with a teacher's width AMD's."""
    shapes = {'mask_token': [1, 1, decoder]}
    shapes |= {'encoder.patch_embed.proj.weight': [width, 3, 2, 16, 16]}
    shapes |= {'encoder.patch_embed.proj.bias': [width]}
    for i in range(depth):
        shapes |= block_shapes(f'encoder.blocks.{i}.', width)
    shapes |= {'encoder.norm.weight': [width], 'encoder.norm.bias': [width]}
    for i in range(pairs if teacher else 0):
        shapes[f'encoder.projection_heads.{i}.weight'] = [teacher, width]
        for j in range(2):
            shapes |= block_shapes(f'generators.{i}.blocks.{j}.', teacher)
        shapes |= {f'generators.{i}.norm.{kind}': [teacher] for kind in ('weight', 'bias')}
    for i in range(decoder_depth):
        shapes |= block_shapes(f'decoder.blocks.{i}.', decoder)
    shapes |= {'decoder.norm.weight': [decoder], 'decoder.norm.bias': [decoder]}
    shapes |= {'decoder.head.weight': [1536, decoder], 'decoder.head.bias': [1536]}
    return {**shapes, 'encoder_to_decoder.weight': [decoder, width]}


def finetuned_shapes(width, depth, classes):
    """Names and shapes of a fine-tuned file."""
    shapes = {'patch_embed.proj.weight': [width, 3, 2, 16, 16], 'patch_embed.proj.bias': [width]}
    for i in range(depth):
        shapes |= block_shapes(f'blocks.{i}.', width)
    shapes |= {'fc_norm.weight': [width], 'fc_norm.bias': [width]}
    return {**shapes, 'head.weight': [classes, width], 'head.bias': [classes]}


def draw(shapes, seed=0, scale=0.1):
    """Random tensors of these shapes."""
    generator = torch.Generator().manual_seed(seed)
    return {
        name: scale * torch.randn(shape, generator=generator, dtype=torch.float64)
        for name, shape in shapes.items()
    }


def positions(width, count):
    """One entry at a time; the official table is rounded to float32."""
    waves = (math.sin, math.cos)
    rows = [
        [waves[j % 2](p / 10000 ** (2 * (j // 2) / width)) for j in range(width)]
        for p in range(count)
    ]
    return torch.tensor(rows, dtype=torch.float32).double()


def norm(x, tensors, name):
    return F.layer_norm(x, x.shape[-1:], tensors[f'{name}.weight'], tensors[f'{name}.bias'], 1e-6)


def block(x, tensors, prefix, heads):
    """One pre-norm block on (n, D); queries and values have a bias, keys none."""
    t = {name: tensors[f'{prefix}{name}'] for name in NAMES}
    n, width = x.shape
    y = norm(x, t, 'norm1')
    query, key, value = (y @ part.T for part in t['attn.qkv.weight'].chunk(3))
    query, value = query + t['attn.q_bias'], value + t['attn.v_bias']
    out = []
    for q, k, v in zip(*(z.split(width // heads, 1) for z in (query, key, value)), strict=True):
        out.append(((q @ k.T) / (width // heads) ** 0.5).softmax(1) @ v)
    x = x + torch.cat(out, 1) @ t['attn.proj.weight'].T + t['attn.proj.bias']
    y = norm(x, t, 'norm2') @ t['mlp.fc1.weight'].T + t['mlp.fc1.bias']
    return x + F.gelu(y) @ t['mlp.fc2.weight'].T + t['mlp.fc2.bias']


def cubes(clip):
    """(3, T, H, W) -> list of (3, 2, 16, 16)."""
    _, T, H, W = clip.shape
    return [
        clip[:, t : t + 2, y : y + 16, x : x + 16]
        for t in range(0, T, 2)
        for y in range(0, H, 16)
        for x in range(0, W, 16)
    ]


def encode(clip, keep, tensors, heads, prefix='encoder.'):
    """Raw outputs of all blocks on the kept cubes of one clip."""
    weight, bias = (tensors[f'{prefix}patch_embed.proj.{kind}'] for kind in ('weight', 'bias'))
    all_cubes = cubes(clip)
    table = positions(len(bias), len(all_cubes))
    rows = [(weight * all_cubes[i]).sum((1, 2, 3, 4)) + bias + table[i] for i in keep]
    x, outputs, depth = torch.stack(rows), [], 0
    while f'{prefix}blocks.{depth}.norm1.weight' in tensors:
        outputs.append(x := block(x, tensors, f'{prefix}blocks.{depth}.', heads))
        depth += 1
    return outputs


def pixels(cube):
    """What is predicted of a cube: each channel by its own mean and deviation, channels last."""
    flat = cube.permute(1, 2, 3, 0).reshape(-1, 3)
    flat = (flat - flat.mean(0)) / (flat.var(0, unbiased=True).sqrt() + 1e-6)
    return flat.reshape(-1)


def decode(tokens, keep, hidden, tensors, heads):
    """Predicted pixels of the hidden cubes of one clip, from normed tokens of the kept ones."""
    x = tokens @ tensors['encoder_to_decoder.weight'].T
    table = positions(x.shape[1], len(keep) + len(hidden))
    seen = [row + table[i] for row, i in zip(x, keep, strict=True)]
    x = torch.stack(seen + [tensors['mask_token'][0, 0] + table[i] for i in hidden])
    depth = 0
    while f'decoder.blocks.{depth}.norm1.weight' in tensors:
        x = block(x, tensors, f'decoder.blocks.{depth}.', heads)
        depth += 1
    x = norm(x[-len(hidden) :], tensors, 'decoder.norm')
    return x @ tensors['decoder.head.weight'].T + tensors['decoder.head.bias']
