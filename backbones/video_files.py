"""Official weight files of ViTs on video: VideoMAE's, AMD's and transformers' of the same weights.

Their networks have neither a class token nor a position table, by which `contents` finds those of
images.
"""

import re
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from .checkpoints import CheckpointError
from .families import VIDEO_FAMILIES

EMBEDDING = 'patch_embed.proj.weight'
# Where the tensors stand: DeepSpeed's files have 'module'.
CONTAINERS = ('model', 'module')
CLASSIFIER = re.compile(r'(fc_norm|head)\.')


# transformers' names -> the official ones, tried in order.
TRANSFORMERS = (
    (r'^videomae\.embeddings\.patch_embeddings\.projection\.', 'encoder.patch_embed.proj.'),
    (r'^videomae\.encoder\.layer\.(\d+)\.', r'encoder.blocks.\1.'),
    (r'^videomae\.layernorm\.', 'encoder.norm.'),
    (r'^decoder\.decoder_layers\.(\d+)\.', r'decoder.blocks.\1.'),
    (r'^classifier\.', 'head.'),
    (r'\.attention\.output\.dense\.', '.attn.proj.'),
    (r'\.attention\.attention\.(query|value)\.bias$', r'.attn.\1_bias'),
    (r'\.attn\.query_bias$', '.attn.q_bias'),
    (r'\.attn\.value_bias$', '.attn.v_bias'),
    (r'\.attention\.attention\.([qv]_bias)$', r'.attn.\1'),
    (r'\.attention\.attention\.', '.attn.'),
    (r'\.intermediate\.dense\.', '.mlp.fc1.'),
    (r'\.output\.dense\.', '.mlp.fc2.'),
    (r'\.layernorm_before\.', '.norm1.'),
    (r'\.layernorm_after\.', '.norm2.'),
)


def read_video_network(family: str, content: Mapping[str, Any], source: str) -> dict[str, Tensor]:
    """The encoder's tensors of a pretraining file, by the names of `MaskedVideoViT`.

    Args:
        family: Name in `VIDEO_FAMILIES`.
        content: Of the file.
        source: Of the content, for messages.

    Raises:
        CheckpointError: no such file, or one that was fine-tuned.
    """
    tensors = official_tensors(content)
    if not tensors:
        raise CheckpointError(
            f'{source} does not look like a {family} file: expected encoder.{EMBEDDING} under '
            "'model' or 'module', or transformers' videomae.embeddings.*"
        )
    if classifier := sorted(filter(CLASSIFIER.match, tensors)):
        raise CheckpointError(
            f'{source} has {classifier[0]}: it was fine-tuned and has no final norm of its own; '
            'expected the pretraining file'
        )
    used, _ = split_pretraining(family, tensors)
    proof = VIDEO_FAMILIES[family].proof
    if not any(name.removeprefix('encoder.').startswith(proof) for name in tensors):
        raise CheckpointError(f'{source} has no {proof}*: expected a pretraining file of {family}')
    return used


def split_pretraining(
    family: str, tensors: Mapping[str, Tensor]
) -> tuple[dict[str, Tensor], dict[str, str]]:
    """The encoder by our names, and what each other tensor is, by its name."""
    encoder, others = {}, {}
    for name, value in tensors.items():
        bare = name.removeprefix('encoder.')
        parts = VIDEO_FAMILIES[family].parts.items()
        what = next((what for part, what in parts if re.match(part, bare)), None)
        if what is None:
            encoder[bare] = value
        else:
            others[name] = what
    return fused(encoder), others


def read_video_classifier(content: Mapping[str, Any], source: str) -> dict[str, Tensor]:
    """All tensors of a fine-tuned file: the encoder's without final norm, ``fc_norm``, ``head``.

    Raises:
        CheckpointError: no such file.
    """
    tensors = official_tensors(content)
    bare = {name.removeprefix('encoder.'): value for name, value in tensors.items()}
    if not any(map(CLASSIFIER.match, bare)):
        raise CheckpointError(f'{source} has no head.*: expected a fine-tuned file of VideoMAE')
    return fused(bare)


def official_tensors(content: Mapping[str, Any]) -> dict[str, Tensor]:
    """Tensors by the official names, whatever wraps them; empty where there is no such network."""
    for node in (*(content.get(name) for name in CONTAINERS), content):
        if not isinstance(node, Mapping):
            continue
        tensors = {k: v for k, v in node.items() if isinstance(k, str) and isinstance(v, Tensor)}
        named = {_official(k.removeprefix('module.')): v for k, v in tensors.items()}
        found = named.get(EMBEDDING, named.get(f'encoder.{EMBEDDING}'))
        if found is not None and found.dim() == 5:
            return named if len(named) == len(tensors) else {}
    return {}


def fused(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """timm's names: q, 0 and v in one bias, three matrices in one; what lacks a part stays."""
    result = dict(tensors)
    for name in tensors:
        if name.endswith('.attn.q_bias'):
            other = name.replace('q_bias', 'v_bias')
            if other in tensors and tensors[other].shape == tensors[name].shape:
                query, value = result.pop(name), result.pop(other)
                bias = torch.cat([query, torch.zeros_like(query), value])
                result[name.replace('q_bias', 'qkv.bias')] = bias
        elif name.endswith('.attn.query.weight'):
            names = [name.replace('query', part) for part in ('query', 'key', 'value')]
            if all(n in tensors and tensors[n].shape == tensors[name].shape for n in names):
                weight = torch.cat([result.pop(n) for n in names])
                result[name.replace('query', 'qkv')] = weight
    return result


def as_official(tensors: Mapping[str, Tensor], prefix: str = '') -> dict[str, Tensor]:
    """The opposite of `fused` for a network's own tensors: ``q_bias`` and ``v_bias``, a prefix."""
    result: dict[str, Tensor] = {}
    for name, value in tensors.items():
        if name.endswith('.attn.qkv.bias'):
            query, _, other = value.chunk(3)
            result[prefix + name.replace('qkv.bias', 'q_bias')] = query.clone()
            result[prefix + name.replace('qkv.bias', 'v_bias')] = other.clone()
        else:
            result[prefix + name] = value
    return result


def _official(name: str) -> str:
    for old, new in TRANSFORMERS:
        name = re.sub(old, new, name)
    return name
