"""What is inside a ViT's weight file: its networks, their origin, and the tensors that belong.

Official files differ in their wrappers and prefixes only: below them all hold timm's tensor names.
Hugging Face's transformers renames every tensor; `transformers_to_timm` undoes that.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from .checkpoints import CheckpointError
from .families import FAMILIES

# Tensors beside a backbone: how their names start and what they are. A classifier (head.weight) is
# not among them: its backbone has been fine-tuned.
PARTS = {
    r'decoder[._]': "MAE's decoder",
    r'mask_token$|masked_embed$': 'mask token of pretraining',
    r'head\.\d+\.': 'projection head',
}


# Networks that any family's may be, in training code of others: solo-learn's, lightly's.
BACKBONES = ('backbone', 'teacher_backbone', 'momentum_backbone')
ANY_FAMILY = ('file', 'model', 'state_dict', *BACKBONES)


@dataclass(frozen=True)
class Network:
    """One network of a file.

    Attributes:
        name: One of ``NAMED`` that stands before its tensors, else ``transformers`` or the
            dictionary that holds them, ``file`` for the top level.
        tensors: By timm's names, parts that are no backbone included.
        beside: Names of further tensors of the dictionary, outside of the network's prefix.
    """

    name: str
    tensors: dict[str, Tensor]
    beside: tuple[str, ...] = ()

    def split(self) -> tuple[dict[str, Tensor], dict[str, str]]:
        """The backbone's tensors, and the names of all others with what they are."""
        dropped = {
            name: what
            for name in self.tensors
            for start, what in PARTS.items()
            if re.match(start, name)
        }
        left_out = dict.fromkeys(self.beside, f'what is beside the {self.name}') | dropped
        return {k: v for k, v in self.tensors.items() if k not in dropped}, left_out


# What may stand before a network's tensors: wrappers that say nothing, and names that do.
WRAPPERS = ('module', '_orig_mod', 'model', 'network', 'net', 'encoder', 'vit')
NAMED = (
    *('base_encoder', 'momentum_encoder', 'teacher', 'student', 'backbone', 'momentum_backbone'),
    *('student_backbone', 'teacher_backbone'),
)
# Dictionaries of tensors in a checkpoint, by the names of their networks; None: its own top level.
CONTAINERS = {
    **{name: name for name in ('model', 'state_dict', 'state_dict_ema', 'model_ema')},
    **{name: name for name in ('teacher', 'student')},
    None: 'file',
}
TOKEN = re.compile(r'(?P<prefix>(?:\w+\.)*)cls_token')
TRANSFORMERS_TOKEN = re.compile(r'((vit|dinov2|dinov2_with_registers)\.)?embeddings\.cls_token')


def find_networks(content: Mapping[str, Any]) -> dict[str, Network]:
    """All ViTs of a checkpoint's content by name, known prefixes taken off."""
    found: dict[str, Network] = {}
    for key, default in CONTAINERS.items():
        tensors = tensors_of(content if key is None else content.get(key))
        if any(TRANSFORMERS_TOKEN.fullmatch(name) for name in tensors):
            found['transformers'] = _network('transformers', transformers_to_timm(tensors))
            continue
        for prefix in filter(_is_known, _prefixes(tensors)):
            own = [part for part in prefix.split('.') if part in NAMED]
            # A teacher's backbone is the teacher.
            name = own[0] if own and default not in ('teacher', 'student') else default
            below = {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}
            beside = tuple(k for k in tensors if not k.startswith(prefix))
            found.setdefault(name, _network(name, below, beside))
    return found


def _network(name: str, tensors: Mapping[str, Tensor], beside: tuple[str, ...] = ()) -> Network:
    return Network(name, {_rename(k): v for k, v in tensors.items()}, beside)


def _is_known(prefix: str) -> bool:
    return {*prefix.split('.')[:-1]} <= {*WRAPPERS, *NAMED}


def _prefixes(tensors: Mapping[str, Tensor]) -> list[str]:
    """What stands before a class token, shortest first."""
    matches = (TOKEN.fullmatch(name) for name in tensors)
    return sorted({match['prefix'] for match in matches if match}, key=len)


def unknown_prefixes(content: Mapping[str, Any]) -> list[str]:
    """What stands before class tokens that `find_networks` does not find."""
    values = (content, *content.values())
    found = {prefix for value in values for prefix in _prefixes(tensors_of(value))}
    return sorted(prefix for prefix in found if not _is_known(prefix))


def choose_network(family: str, networks: Mapping[str, Network]) -> Network | None:
    """The network that a family's official code uses downstream, or None."""
    for name in (*FAMILIES[family].networks, *ANY_FAMILY):
        if name in networks:
            return networks[name]
    return None


def detect_family(content: Mapping[str, Any], networks: Mapping[str, Network]) -> tuple[str, str]:
    """Tell a file's family from its content.

    Returns:
        The family and the evidence for it, a phrase.

    Raises:
        CheckpointError: nothing known, or a network with a classifier, which any timm ViT has.
    """
    if 'base_encoder' in networks:
        return 'mocov3', 'tensors are called module.base_encoder.*'
    if (teacher := networks.get('teacher')) and 'blocks.0.ls1.gamma' not in teacher.tensors:
        student = networks.get('student')
        if 'ibot_loss' in content or (student and 'masked_embed' in student.tensors):
            return 'ibot', 'a teacher beside a student with masked_embed or an ibot_loss'
        return 'dino', 'a teacher beside a student without masked_embed, no ibot_loss'
    told = ('teacher', 'model', 'transformers', 'file', 'state_dict', *BACKBONES)
    network = next((networks[name] for name in told if name in networks), None)
    if network is None:
        raise CheckpointError(_nothing_known(content))
    names = network.tensors
    if 'blocks.0.ls1.gamma' in names:
        return 'dinov2', 'LayerScale (blocks.*.ls1.gamma)' + (
            ' and register tokens' if 'reg_token' in names else ''
        )
    classifier = sorted(name for name in names if re.match(r'(head|fc_norm|norm_pre)\.', name))
    if classifier:
        raise CheckpointError(
            f"it has {classifier[0]}: a classifier or another ViT; family='timm' reads timm's"
        )
    first = fixed_positions(names['pos_embed']) if 'pos_embed' in names else None
    if first == 'w':
        return 'mae', 'fixed positions whose first half encodes the column, as only MAE has'
    if first == 'h':
        return (
            'mocov3',
            'fixed positions whose first half encodes the row, as only MoCo v3 has',
        )
    if network.name == 'state_dict' and set(content) == {'state_dict'}:
        return 'ibot', "bare names under 'state_dict' and nothing else, as iBOT's teacher alone"
    if network.name in ('state_dict', *BACKBONES):
        others = sorted(networks.keys() - {network.name})
        raise CheckpointError(
            f"learned positions under '{network.name}', as timm's train.py and other code save any "
            f"method's weights{_beside(others)}; name the family"
        )
    if network.name == 'model' or any(name.startswith('decoder') for name in names):
        return 'mae', "names under 'model', or a decoder"
    return 'dino', (
        "learned positions and bare names, the layout of DINO's backbone file; "
        "iBOT's or timm's weights, or a student's, saved that way look the same"
    )


def _beside(names: list[str]) -> str:
    return f', {" and ".join(names)} beside it' if names else ''


def _nothing_known(content: Mapping[str, Any]) -> str:
    if unknown := unknown_prefixes(content):
        return (
            f'no ViT that is known: a cls_token stands under {unknown[0]!r}, which is no known '
            'prefix: rename the tensors'
        )
    return 'no ViT that is known: no cls_token under any known prefix'


def fixed_positions(table: Tensor) -> str | None:
    """``'w'`` or ``'h'``: the axis that the first half of a fixed table encodes; None if learned.

    Args:
        table: (1, 1 + G * G, D).
    """
    side = round(max(table.shape[1] - 1, 0) ** 0.5) if table.dim() == 3 else 0
    if side < 2 or table.shape[1] != 1 + side * side or table[:, 0].any():
        return None
    half = table[0, 1:, : table.shape[2] // 2].reshape(side, side, -1)
    if torch.allclose(half, half[:1], atol=1e-5):
        return 'w'
    if torch.allclose(half, half[:, :1], atol=1e-5):
        return 'h'
    return None


def infer_architecture(tensors: Mapping[str, Tensor]) -> dict[str, int]:
    """Shape of a ViT as its tensors tell it; head counts leave no trace and are not in it.

    Raises:
        CheckpointError: a tensor that tells it is missing.
    """
    needed = ('cls_token', 'pos_embed', 'patch_embed.proj.weight')
    missing = [name for name in needed if name not in tensors]
    if missing:
        raise CheckpointError(f'no {missing[0]}: not a ViT with class token and positions')
    wanted = dict(zip(needed, (3, 3, 4), strict=True))
    odd = [name for name, dim in wanted.items() if tensors[name].dim() != dim]
    if odd:
        raise CheckpointError(f'{odd[0]} has the shape {tuple(tensors[odd[0]].shape)}: not a ViT')
    patch = tensors['patch_embed.proj.weight'].shape[-1]
    side = round(max(tensors['pos_embed'].shape[1] - 1, 0) ** 0.5)
    blocks = {int(m[1]) for m in (re.match(r'blocks\.(\d+)\.', name) for name in tensors) if m}
    return dict(
        img_size=side * patch,
        patch_size=patch,
        embed_dim=tensors['cls_token'].shape[-1],
        depth=max(blocks, default=-1) + 1,
    )


TRANSFORMERS_NAMES = (
    (r'^embeddings\.cls_token$', 'cls_token'),
    (r'^embeddings\.mask_token$', 'mask_token'),
    (r'^embeddings\.register_tokens$', 'reg_token'),
    (r'^embeddings\.position_embeddings$', 'pos_embed'),
    (r'^embeddings\.patch_embeddings\.projection\.', 'patch_embed.proj.'),
    (r'^encoder\.layer\.(\d+)\.', r'blocks.\1.'),
    (r'\.attention\.output\.dense\.', '.attn.proj.'),
    (r'\.intermediate\.dense\.', '.mlp.fc1.'),
    (r'(blocks\.\d+)\.output\.dense\.', r'\1.mlp.fc2.'),
    (r'\.layernorm_before\.', '.norm1.'),
    (r'\.layernorm_after\.', '.norm2.'),
    (r'\.layer_scale(\d)\.lambda1$', r'.ls\1.gamma'),
    (r'^layernorm\.', 'norm.'),
)
PROJECTION = re.compile(
    r'(blocks\.\d+)\.(?:attention\.attention\.(query|key|value)|attn\.([qkv]))\.(weight|bias)'
)


def transformers_to_timm(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rename a ViT of Hugging Face's transformers; query, key and value become one matrix."""
    bare = {re.sub(r'^(vit|dinov2|dinov2_with_registers)\.', '', k): v for k, v in tensors.items()}
    renamed = fuse_projections(bare, TRANSFORMERS_NAMES)
    # A pooler is trained by nobody, random in these files.
    return {name: tensor for name, tensor in renamed.items() if not name.startswith('pooler.')}


def fuse_projections(
    tensors: Mapping[str, Tensor], names: Iterable[tuple[str, str]]
) -> dict[str, Tensor]:
    """Rename tensors by patterns, those of a decoder aside; query, key, value become one matrix."""
    renamed: dict[str, Tensor] = {}
    parts: dict[str, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        if not name.startswith('decoder.'):
            for old, new in names:
                name = re.sub(old, new, name)
        projection = PROJECTION.fullmatch(name)
        if projection:
            fused = f'{projection[1]}.attn.qkv.{projection[4]}'
            parts.setdefault(fused, {})[(projection[2] or projection[3])[0]] = tensor
        else:
            renamed[name] = tensor
    for fused, three in parts.items():
        if len(three) == 3 and len({tensor.shape for tensor in three.values()}) == 1:
            renamed[fused] = torch.cat([three[part] for part in 'qkv'])
        else:  # none that fits: whoever fills a network names them
            renamed |= {f'{fused} of {part}': tensor for part, tensor in three.items()}
    return renamed


CHUNK = re.compile(r'^blocks\.\d+\.(\d+)\.')


def _rename(name: str) -> str:
    """timm's name of a tensor; DINOv2's blocks come in chunks, and register_tokens are its own."""
    name = CHUNK.sub(r'blocks.\1.', name)
    return 'reg_token' if name == 'register_tokens' else name


def tensors_of(content: Any) -> dict[str, Tensor]:
    """The tensors of a dictionary, without what torch.compile puts into names."""
    if not isinstance(content, Mapping):
        return {}
    return {
        k.replace('_orig_mod.', ''): v
        for k, v in content.items()
        if isinstance(k, str) and isinstance(v, Tensor)
    }
