"""Weight files for timm's networks: wrappers taken off, official layouts renamed, nothing resized.

Files of Hugging Face's transformers are renamed by `contents` and the tables here, other official
layouts by timm's own filters. Nothing in a file is executed.
"""

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from .checkpoints import CheckpointError
from .contents import NAMED, WRAPPERS, fuse_projections, tensors_of, transformers_to_timm

# Dictionaries of training codes that hold a network, averaged weights first, as timm takes them.
AVERAGES = ('state_dict_ema', 'model_ema', 'ema')
CONTAINERS = (*AVERAGES, 'state_dict', 'model', 'module')
KNOWN = {*WRAPPERS, *NAMED, 'ema_model', 'trunk', 'visual', 'vision_model'}
# Buffers that files hold and timm computes, and tensors of pretraining alone.
COMPUTED = re.compile(
    r'(.*\.)?(relative_position_index|attn_mask|bias_mask|position_ids'
    r'|periods|inv_freq)$|mask_token$|embeddings\.mask_token$'
)
VISION = r'^(vision_model|vision_tower|visual)\.'
# CLIP and SigLIP of transformers; the text tower is beside the network.
CLIP_NAMES = (
    (r'^embeddings\.class_embedding$', 'cls_token'),
    (r'^embeddings\.patch_embedding\.', 'patch_embed.proj.'),
    (r'^embeddings\.position_embedding\.weight$', 'pos_embed'),
    (r'^pre_layrnorm\.', 'norm_pre.'),  # its own spelling
    (r'^post_layernorm\.', 'norm.'),
    (r'^encoder\.layers\.(\d+)\.', r'blocks.\1.'),
    (r'\.layer_norm([12])\.', r'.norm\1.'),
    (r'\.self_attn\.out_proj\.', '.attn.proj.'),
    (r'\.self_attn\.([qkv])_proj\.', r'.attn.\1.'),
    (r'^head\.probe$', 'attn_pool.latent'),
    (r'^head\.attention\.out_proj\.', 'attn_pool.proj.'),
    (r'^head\.layernorm\.', 'attn_pool.norm.'),
    (r'^head\.mlp\.', 'attn_pool.mlp.'),
)
# DINOv3 of transformers.
DINOV3_NAMES = (
    (r'^embeddings\.cls_token$', 'cls_token'),
    (r'^embeddings\.register_tokens$', 'reg_token'),
    (r'^embeddings\.patch_embeddings\.', 'patch_embed.proj.'),
    (r'^(?:model\.)?layer\.(\d+)\.', r'blocks.\1.'),
    (r'\.attention\.o_proj\.', '.attn.proj.'),
    (r'\.attention\.([qkv])_proj\.', r'.attn.\1.'),
    (r'\.mlp\.up_proj\.', '.mlp.fc1.'),
    (r'\.mlp\.down_proj\.', '.mlp.fc2.'),
    (r'\.layer_scale([12])\.lambda1$', r'.gamma_\1'),
)


class OtherSize(CheckpointError):
    """A position table of other images than the network's.

    Attributes:
        size: Edge in pixels of those that it is made for.
    """

    def __init__(self, message: str, size: int) -> None:
        super().__init__(f'{message}: img_size={size} reads it')
        self.size = size


@dataclass(frozen=True)
class Found:
    """The tensors of one network of a file.

    Attributes:
        tensors: By timm's names.
        said: What was taken off, left out or chosen, in one line; '' for a plain file.
    """

    tensors: dict[str, Tensor]
    said: str


def read_timm(content: Mapping[str, Any], net: nn.Module, path: str | Path) -> Found:
    """The tensors of a file by the names that a network of timm has today; sizes never change.

    Args:
        content: As `read_checkpoint` gives it.
        net: The network that they are for; names of a classifier that it lacks are left out.
        path: For messages.

    Raises:
        CheckpointError: no tensors, or those of another network or size.
    """
    said: list[str] = []
    tensors, where = _container(content)
    if where:
        said.append(f"read from '{where}'")
    own = net.state_dict()
    tensors, prefix = _without_prefix(tensors, own)
    if prefix:
        said.append(f'prefix {prefix} taken off')
    if not tensors:
        raise CheckpointError(f'{path} holds no tensors by name')
    used = {k: v for k, v in tensors.items() if not COMPUTED.match(k)}
    if own.keys() <= used.keys():
        used = {k: v for k, v in used.items() if k in own or not _is_head(k, net)}
        if left := len(tensors) - len(used):
            said.append(f'{left} tensors beside the backbone left out')
    else:
        _check_table(used, net, path)
        used = {
            k: v for k, v in _renamed(used, net, path).items() if k in own or not _is_head(k, net)
        }
        said.append('names of another layout brought to those of timm')
    _check_table(used, net, path)
    return Found(used, '; '.join(said))


def _container(content: Mapping[str, Any]) -> tuple[dict[str, Tensor], str]:
    """The tensors of the dictionary that is read, and its name; '' for the file itself."""
    where = ''
    while key := next((k for k in CONTAINERS if isinstance(content.get(k), Mapping)), None):
        content, where = content[key], key
    return tensors_of(content), where


def _without_prefix(
    tensors: Mapping[str, Tensor], own: Mapping[str, Tensor]
) -> tuple[dict[str, Tensor], str]:
    """What stands below the known prefix under which most of the network's names are."""
    found: Counter[str] = Counter()
    for name in own:
        for key in _ending_with(name, tensors):
            prefix = key[: len(key) - len(name)]
            if all(part in KNOWN for part in prefix.split('.')[:-1]):
                found[prefix] += 1
    if found:
        prefix, count = max(found.items(), key=lambda item: (item[1], -len(item[0])))
        if count * 2 >= len(own):
            below = {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}
            return below, prefix
    # Other names than timm's: only what stands before all of them.
    prefix = ''
    while True:
        first = {k.partition('.')[0] for k in tensors if '.' in k}
        if len(first) != 1 or not first <= {*WRAPPERS}:
            return dict(tensors), prefix
        (word,) = first
        tensors = {k.removeprefix(f'{word}.'): v for k, v in tensors.items()}
        prefix += f'{word}.'


def _ending_with(name: str, tensors: Mapping[str, Tensor]) -> list[str]:
    return [key for key in tensors if key == name or key.endswith(f'.{name}')]


def _renamed(tensors: dict[str, Tensor], net: nn.Module, path: str | Path) -> dict[str, Tensor]:
    """Files of transformers, and the layouts that timm knows."""
    if any(re.match(r'((vit|dinov2\w*)\.)?encoder\.layer\.', name) for name in tensors):
        return transformers_to_timm(tensors)
    bare = {re.sub(VISION, '', k): v for k, v in tensors.items() if re.match(VISION, k)}
    for names, there in ((bare, 'encoder.layers.0.'), (tensors, 'encoder.layers.0.')):
        if any(name.startswith(there) for name in names):
            return _clip(names)
    if any(re.match(r'(model\.)?layer\.0\.attention\.', name) for name in tensors):
        return _dinov3(tensors, net, path)
    return _by_timm(tensors, net, path)


def _clip(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    renamed = fuse_projections(tensors, CLIP_NAMES)
    for name, shape in (('cls_token', (1, 1, -1)), ('pos_embed', None)):
        if name in renamed:
            value = renamed[name]
            renamed[name] = value.reshape(shape) if shape else value[None]
    for kind in ('weight', 'bias'):  # torch's attention holds query, key and value in one
        packed = renamed.pop(f'head.attention.in_proj_{kind}', None)
        if packed is not None:
            width = len(packed) // 3
            renamed[f'attn_pool.q.{kind}'] = packed[:width]
            renamed[f'attn_pool.kv.{kind}'] = packed[width:]
    return renamed


def _dinov3(tensors: Mapping[str, Tensor], net: nn.Module, path: str | Path) -> dict[str, Tensor]:
    biases = {}
    plain = {}
    for name, tensor in tensors.items():
        match = re.fullmatch(r'(?:model\.)?layer\.(\d+)\.attention\.([qv])_proj\.bias', name)
        if match:
            biases[f'blocks.{match[1]}.attn.{match[2]}_bias'] = tensor
        else:
            plain[name] = tensor
    renamed = fuse_projections(plain, DINOV3_NAMES)
    return renamed | _wanted_biases(biases, net, path)


def _wanted_biases(
    biases: Mapping[str, Tensor], net: nn.Module, path: str | Path
) -> dict[str, Tensor]:
    """Biases of query and value; a network without any takes zeros only."""
    own = net.state_dict()
    for name, bias in biases.items():
        if name not in own and bias.any():
            raise CheckpointError(
                f'{path}: {name} is not zero, but the network has no such bias: take the timm '
                "name that ends in 'dinov3_qkvb'"
            )
    return {name: bias for name, bias in biases.items() if name in own}


def _by_timm(tensors: dict[str, Tensor], net: nn.Module, path: str | Path) -> dict[str, Tensor]:
    """Official layouts by the filter in timm's own module of the network."""
    rename = getattr(import_module(type(net).__module__), 'checkpoint_filter_fn', None)
    if rename is None:
        return tensors
    given = dict(tensors)
    biases: dict[str, Tensor] = {}
    if 'storage_tokens' in given:  # DINOv3's own: timm would drop biases unseen
        for name in [name for name in given if name.endswith('attn.qkv.bias')]:
            query, _, value = given.pop(name).chunk(3)
            stem = name.removesuffix('qkv.bias')
            biases |= {f'{stem}q_bias': query, f'{stem}v_bias': value}
    try:
        renamed = dict(rename(dict(given), net))
    except (KeyError, AttributeError, RuntimeError, IndexError, AssertionError) as error:
        raise CheckpointError(
            f'{path} does not fit {type(net).__name__}: {type(error).__name__} {error}'
        ) from error
    # timm would stretch position tables and patch embeddings to another size.
    sizes = Counter(v.numel() for v in given.values())
    if more := Counter(v.numel() for k, v in renamed.items() if not _is_head(k, net)) - sizes:
        name = next(k for k, v in renamed.items() if v.numel() in more)
        raise CheckpointError(f'{path} is of another size than the network, at {name}')
    return renamed | _wanted_biases(biases, net, path)


def _is_head(name: str, net: nn.Module) -> bool:
    """Whether a tensor belongs to a classifier, by timm's word for it."""
    named = (getattr(net, 'pretrained_cfg', None) or {}).get('classifier') or 'head'
    words = (named,) if isinstance(named, str) else tuple(named)
    return name.startswith(tuple(f'{word}.' for word in words))


def _check_table(tensors: Mapping[str, Tensor], net: nn.Module, path: str | Path) -> None:
    """Stop at a position table of other images."""
    own = getattr(net, 'pos_embed', None)
    table = next((v for k, v in tensors.items() if k.rpartition('.')[2] == 'pos_embed'), None)
    if table is None or own is None or table.dim() != 3 or table.shape[1] == own.shape[1]:
        return
    rows, columns = net.patch_embed.grid_size
    prefix = own.shape[1] - rows * columns
    side = round(max(table.shape[1] - prefix, 0) ** 0.5)
    if side and side * side + prefix == table.shape[1]:
        raise OtherSize(
            f'{path} has positions of {side}x{side} patches, the network of {rows}x{columns}',
            side * net.patch_embed.patch_size[0],
        )
