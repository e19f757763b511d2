"""Folders of Hugging Face's hub: which network of timm their ``config.json`` describes.

timm's own name the network and its arguments; of transformers the vision towers of CLIP and SigLIP
and DINOv3's ViTs are known. No code of a folder is run.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .checkpoints import CheckpointError
from .files import read_json

CONFIG_FILE = 'config.json'
PROCESSOR_FILE = 'preprocessor_config.json'
# Arguments of timm.create_model that would read other files or change what it returns.
REFUSED = ('pretrained', 'checkpoint', 'features_only', 'scriptable', 'exportable', 'cache_dir')


@dataclass(frozen=True)
class Described:
    """A network of timm as a folder describes it.

    Attributes:
        model: timm's name.
        arguments: Further arguments of ``timm.create_model``.
        mean, std: Statistics of its images; None where the folder says none.
    """

    model: str
    arguments: dict[str, Any] = field(default_factory=dict)
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None


@dataclass(frozen=True)
class Kind:
    """How one type of transformers' networks is built by timm: sizes under transformers' names.

    ``defaults`` are its configuration class's, which files leave out.
    """

    model: str
    defaults: Mapping[str, Any]
    fixed: Mapping[str, Any] = field(default_factory=dict)


_BASE = dict(
    hidden_size=768, intermediate_size=3072, num_hidden_layers=12, num_attention_heads=12,
    image_size=224,
)  # fmt: skip
_CLIP = Kind('vit_base_patch16_clip_224', {**_BASE, 'patch_size': 32, 'hidden_act': 'quick_gelu'})
_SIGLIP = Kind(
    'vit_base_patch16_siglip_224', {**_BASE, 'patch_size': 16, 'hidden_act': 'gelu_pytorch_tanh'}
)
_DINOV3 = Kind(
    'vit_base_patch16_dinov3',
    dict(
        hidden_size=384, intermediate_size=1536, num_hidden_layers=12, num_attention_heads=6,
        image_size=224, patch_size=16, hidden_act='gelu',
    ),
)  # fmt: skip
KINDS: dict[str, Kind] = {
    **dict.fromkeys(('clip', 'clip_vision_model'), _CLIP),
    **dict.fromkeys(('siglip', 'siglip_vision_model'), _SIGLIP),
    'dinov3_vit': _DINOV3,
}
# Read by the suite's own families, whatever the folder is called.
FAMILIES_OF = {
    'vit_mae': 'mae',
    'dinov2': 'dinov2',
    'dinov2_with_registers': 'dinov2',
    'vit': 'dino',
}
ACTIVATIONS = {'gelu': 'gelu', 'gelu_pytorch_tanh': 'gelu_tanh', 'quick_gelu': 'quick_gelu'}


def config_beside(checkpoint: str | Path) -> Path | None:
    """The ``config.json`` of a folder, or beside a file of weights; None where there is none."""
    path = Path(checkpoint)
    config = (path if path.is_dir() else path.parent) / CONFIG_FILE
    return config if config.is_file() else None


def describe(checkpoint: str | Path) -> Described | None:
    """The network that the folder of a weight file describes; None without a description.

    Raises:
        CheckpointError: a description that is none, or of a network that is not known.
    """
    path = config_beside(checkpoint)
    if path is None:
        return None
    try:
        config = read_json(path)
    except ValueError as error:
        raise CheckpointError(str(error)) from error
    if isinstance(config.get('architecture'), str):
        return _of_timm(config, path)
    return _of_transformers(config, path)


def _of_timm(config: Mapping[str, Any], path: Path) -> Described:
    arguments = config.get('model_args') or {}
    if not isinstance(arguments, dict):
        raise CheckpointError(f'{path}: model_args {arguments!r:.60} are no dictionary')
    for name in arguments:
        if name.startswith(REFUSED):
            raise CheckpointError(f'{path} is refused: model_args.{name} is no part of a network')
    own = config.get('pretrained_cfg')
    own = own if isinstance(own, dict) else {}
    skipped = ('num_classes', 'dynamic_img_size')
    plain = {k: _tuples(v) for k, v in arguments.items() if k not in skipped}
    return Described(
        config['architecture'],
        plain,
        _numbers(own.get('mean'), path),
        _numbers(own.get('std'), path),
    )


def _of_transformers(config: Mapping[str, Any], path: Path) -> Described:
    told = config.get('model_type')
    if told in FAMILIES_OF:
        name = FAMILIES_OF[told]
        raise CheckpointError(
            f"{path}: model_type {told!r} is read by a family: family='{name}', on the command "
            f'line {name}={path.parent}'
        )
    if told not in KINDS:
        raise CheckpointError(
            f'{path}: model_type {told!r} is not read from this layout; '
            f'{", ".join(KINDS)} are, and any folder or file of timm'
        )
    kind = KINDS[told]
    sizes = config.get('vision_config') if told in ('clip', 'siglip') else config
    model = kind.model
    if told == 'dinov3_vit':
        if config.get('use_gated_mlp'):
            raise CheckpointError(
                f"{path}: DINOv3 with a gated MLP: take timm's file of it, "
                'model=vit_huge_plus_patch16_dinov3'
            )
        # Query and value have biases or not; transformers' default is that they have.
        if config.get('query_bias', True) or config.get('value_bias', True):
            model += '_qkvb'
    sizes = {**kind.defaults, **(sizes if isinstance(sizes, dict) else {})}
    whole = {k: sizes[k] for k in kind.defaults if k != 'hidden_act'}
    odd = [k for k, v in whole.items() if not isinstance(v, int) or isinstance(v, bool) or v < 1]
    if odd or sizes['hidden_act'] not in ACTIVATIONS:
        name = odd[0] if odd else 'hidden_act'
        raise CheckpointError(f'{path}: {name} {sizes[name]!r} is not known')
    activation = ACTIVATIONS[sizes['hidden_act']]
    processor = path.with_name(PROCESSOR_FILE)
    images = {}
    if processor.is_file():
        try:
            images = read_json(processor)
        except ValueError as error:
            raise CheckpointError(str(error)) from error
    return Described(
        model,
        dict(
            img_size=sizes['image_size'],
            patch_size=sizes['patch_size'],
            embed_dim=sizes['hidden_size'],
            depth=sizes['num_hidden_layers'],
            num_heads=sizes['num_attention_heads'],
            mlp_ratio=sizes['intermediate_size'] / sizes['hidden_size'],
            **({} if activation == 'gelu' else {'act_layer': activation}),
        ),
        _numbers(images.get('image_mean'), path),
        _numbers(images.get('image_std'), path),
    )


def _tuples(value: Any) -> Any:
    return tuple(map(_tuples, value)) if isinstance(value, list) else value


def _numbers(value: Any, path: Path) -> tuple[float, ...] | None:
    if value is None:
        return None
    if (
        not isinstance(value, list)
        or len(value) != 3
        or not all(isinstance(x, (int, float)) and x == x for x in value)
    ):
        raise CheckpointError(f'{path}: {value!r:.60} are no statistics of three channels')
    return tuple(float(x) for x in value)
