"""Building a network of any registered architecture, and a student from its file."""

from pathlib import Path
from typing import Any

from mmengine.registry import MODELS
from torch import nn

from . import staged, video_vit, vit  # noqa: F401  they register the networks that are here
from .architectures import VIT, network_config
from .checkpoints import CheckpointError, fill_completely
from .student import CARD_FILE, LoadsStudent, check_architecture, check_sizes, read_student


def build_network(arch: str, **options: Any) -> nn.Module:
    """A network of a registered architecture with random weights.

    Args:
        arch: Name in `ARCHITECTURES`.
        options: Further arguments of its class, or other values of the architecture's own.

    Raises:
        ValueError: an unknown architecture, or one whose class nobody registered.
    """
    return _build({**network_config(arch), **options})


def load_student(path: str | Path, **options: Any) -> LoadsStudent:
    """A student built from its card's architecture and filled from the file.

    Raises:
        CheckpointError: anything but a complete match of tensors and architecture.
    """
    tensors, card = read_student(path)
    stated = card.get('architecture')
    check_sizes(stated, tensors, Path(path))
    try:
        backbone = _build({**stated, **options})
    # A card may have been written by hand, and states any argument with any value.
    except (
        ValueError,
        TypeError,
        KeyError,
        AssertionError,
        ArithmeticError,
        RuntimeError,
    ) as error:
        reason = ' '.join(str(error).split()) or type(error).__name__
        raise CheckpointError(
            f'{Path(path).with_name(CARD_FILE)}: no network of architecture {stated}: {reason}'
        ) from error
    check_architecture(card, backbone.architecture(), Path(path))
    fill_completely(backbone.network, backbone.adapt(tensors), path, backbone.new_parameters())
    backbone.loaded = True
    return backbone


def _build(config: dict[str, Any]) -> nn.Module:
    kind = config.pop('type', VIT)
    network = MODELS.get(kind)
    if network is None:
        raise ValueError(f'network type {kind!r} is unknown: the module that defines it is missing')
    if not (isinstance(network, type) and issubclass(network, LoadsStudent)):
        raise ValueError(f'network type {kind!r} is no student')
    return network(**config)
