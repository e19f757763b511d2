"""What is inside a ViT's weight file: its networks, their origin, and the tensors that belong.

Official files differ in their wrappers and prefixes only: below them all hold timm's tensor names.
Hugging Face's transformers renames every tensor; `transformers_to_timm` undoes that.
"""

import re
from collections.abc import Mapping
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


@dataclass(frozen=True)
class Network:
    """One network of a file.

    Attributes:
        name: ``model``, ``base_encoder``, ``momentum_encoder``, ``teacher``, ``student``,
            ``state_dict``, ``transformers`` or ``file`` (the file's own top level).
        tensors: By timm's names, parts that are no backbone included.
    """

    name: str
    tensors: dict[str, Tensor]

    def split(self) -> tuple[dict[str, Tensor], dict[str, str]]:
        """The backbone's tensors, and the names of all others with what they are."""
        dropped = {
            name: what
            for name in self.tensors
            for start, what in PARTS.items()
            if re.match(start, name)
        }
        return {k: v for k, v in self.tensors.items() if k not in dropped}, dropped


def find_networks(content: Mapping[str, Any]) -> dict[str, Network]:
    """All ViTs of a checkpoint's content by name, prefixes taken off."""
    state = _tensors(content.get('state_dict'))
    found = {
        'model': _tensors(content.get('model')),
        'base_encoder': _below('module.base_encoder.', state),
        'momentum_encoder': _below('module.momentum_encoder.', state),
    }
    for name in ('teacher', 'student'):
        tensors = _tensors(content.get(name))
        tensors = _below('module.', tensors) or tensors
        found[name] = _below('backbone.', tensors)
    if not any(name.startswith('module.') for name in state):
        found['state_dict'] = state
    top = _tensors(content)
    if any(name.endswith('embeddings.cls_token') for name in top):
        found['transformers'] = transformers_to_timm(top)
    elif 'cls_token' in top:
        found['file'] = top
    found = {name: {_rename(k): v for k, v in tensors.items()} for name, tensors in found.items()}
    return {k: Network(k, tensors) for k, tensors in found.items() if tensors}


def choose_network(family: str, networks: Mapping[str, Network]) -> Network | None:
    """The network that a family's official code uses downstream, or None."""
    for name in FAMILIES[family].networks:
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
    if 'teacher' in networks:
        student = networks.get('student')
        if 'ibot_loss' in content or (student and 'masked_embed' in student.tensors):
            return 'ibot', 'a teacher beside a student with masked_embed or an ibot_loss'
        return 'dino', 'a teacher beside a student without masked_embed, no ibot_loss'
    if 'state_dict' in networks:
        return 'ibot', "bare names under 'state_dict', the layout of iBOT's teacher-only file"
    network = next(
        (networks[name] for name in ('model', 'transformers', 'file') if name in networks), None
    )
    if network is None:
        raise CheckpointError('no ViT that is known: no cls_token under any known prefix')
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
    if network.name == 'model' or any(name.startswith('decoder') for name in names):
        return 'mae', "names under 'model', or a decoder"
    return 'dino', (
        "learned positions and bare names, the layout of DINO's backbone file; "
        "iBOT's or timm's weights saved that way look the same"
    )


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
    side = round((tensors['pos_embed'].shape[1] - 1) ** 0.5)
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
PROJECTION = re.compile(r'(blocks\.\d+)\.attention\.attention\.(query|key|value)\.(weight|bias)')


def transformers_to_timm(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rename a ViT of Hugging Face's transformers; query, key and value become one matrix."""
    renamed: dict[str, Tensor] = {}
    parts: dict[str, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        name = re.sub(r'^(vit|dinov2|dinov2_with_registers)\.', '', name)
        if not name.startswith('decoder.'):
            for old, new in TRANSFORMERS_NAMES:
                name = re.sub(old, new, name)
        projection = PROJECTION.fullmatch(name)
        if projection:
            fused = f'{projection[1]}.attn.qkv.{projection[3]}'
            parts.setdefault(fused, {})[projection[2]] = tensor
        elif not name.startswith('pooler.'):  # trained by nobody, random in these files
            renamed[name] = tensor
    for fused, three in parts.items():
        if len(three) == 3:
            renamed[fused] = torch.cat([three[part] for part in ('query', 'key', 'value')])
    return renamed


def _rename(name: str) -> str:
    return 'reg_token' if name == 'register_tokens' else name


def _tensors(content: Any) -> dict[str, Tensor]:
    if not isinstance(content, Mapping):
        return {}
    return {k: v for k, v in content.items() if isinstance(k, str) and isinstance(v, Tensor)}


def _below(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}
