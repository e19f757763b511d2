"""Frozen teachers read from the official files of MAE, MoCo v3 and iBOT.

A reader picks one network out of a file, strips its prefixes and drops the parts that are known
not to belong to the backbone. Whatever is left must fill the network completely, else it stops.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from .checkpoints import CheckpointError, fill_completely, read_checkpoint, tensor_digest
from .vit import MaskedViT


@dataclass(frozen=True)
class Family:
    """How one family of checkpoints is read.

    Attributes:
        select: Picks the network's tensors out of the file's content; None if it is not there.
        drop: Prefixes of tensors that belong to heads or decoders.
        pos_interpolation: The rule of the official code for other grid sizes.
        layout: What a readable file holds, for the error line.
        licence: Licence of the official weights.
    """

    select: Callable[[Mapping[str, Any]], dict[str, Tensor] | None]
    drop: tuple[str, ...]
    pos_interpolation: str
    layout: str
    licence: str


def _mae(content: Mapping[str, Any]) -> dict[str, Tensor] | None:
    return _tensors(content.get('model'))


def _mocov3(content: Mapping[str, Any]) -> dict[str, Tensor] | None:
    """The base encoder; the momentum encoder is not used downstream by the official code."""
    return _below('module.base_encoder.', _tensors(content.get('state_dict')))


def _ibot(content: Mapping[str, Any]) -> dict[str, Tensor] | None:
    """The teacher of a full file, or the bare keys of a teacher-only file."""
    if 'teacher' in content:
        teacher = _tensors(content['teacher'])
        teacher = _below('module.', teacher) or teacher
        return _below('backbone.', teacher)
    return _tensors(content.get('state_dict'))


FAMILIES: dict[str, Family] = {
    'mae': Family(
        _mae, ('decoder_', 'mask_token'), 'bicubic', "{'model': tensors}", 'CC-BY-NC 4.0'
    ),
    'mocov3': Family(
        _mocov3,
        ('head.',),
        'bicubic',
        "{'state_dict': module.base_encoder.* tensors}",
        'CC-BY-NC 4.0',
    ),
    'ibot': Family(
        _ibot,
        ('head.', 'masked_embed'),
        'bicubic_offset',
        "{'teacher': backbone.* tensors} or {'state_dict': tensors}",
        'Apache-2.0',
    ),
}


class Teacher(MaskedViT):
    """A frozen `MaskedViT` that nothing can change by accident.

    It stays in eval mode, is never initialised again and is neither saved into nor expected in a
    checkpoint of the model that holds it: three ViT-B would add a gigabyte to every file.

    Attributes:
        card: family, file, licence and digest, as stated in the cards of its students.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(frozen=True, **options)
        self.card: dict[str, Any] = {}
        self.register_state_dict_post_hook(_leave_out)
        self.register_load_state_dict_pre_hook(_keep_own)
        self.eval()

    def init_weights(self, mode: str = '', needs_reset: bool = True) -> None:
        """timm's initialisation while being built, nothing afterwards."""
        if not self._constructed:
            super().init_weights(mode, needs_reset)

    @torch.inference_mode()
    def _frozen_tokens(self, images: Tensor, keep: Tensor | None, layers: list[int] | None) -> Any:
        dtype = self.patch_embed.proj.weight.dtype
        return super().tokens(images.to(dtype), keep, layers)

    def tokens(
        self, images: Tensor, keep: Tensor | None = None, layers: list[int] | None = None
    ) -> Tensor | list[Tensor]:
        """As `MaskedViT.tokens`, without a graph; the result may take part in one."""
        out = self._frozen_tokens(images, keep, layers)
        # An inference tensor cannot be saved for backward; its copy can.
        return [x.clone() for x in out] if isinstance(out, list) else out.clone()

    def digest(self) -> str:
        """sha256 of all tensors; changes if anything touched the teacher."""
        return tensor_digest(self.named_parameters())


def build_teacher(
    family: str, checkpoint: str | Path, arch: str = 'base', **overrides: Any
) -> Teacher:
    """Build a frozen teacher and fill all of it from an official checkpoint.

    Args:
        family: ``mae``, ``mocov3`` or ``ibot``.
        checkpoint: File in the family's official layout.
        arch: Architecture of the file; ``overrides`` replace entries (embed_dim, ...).

    Raises:
        CheckpointError: the file is missing, of another family or architecture, or incomplete.
    """
    if family not in FAMILIES:
        raise ValueError(f'teacher family {family!r} is unknown; known: {", ".join(FAMILIES)}')
    reader = FAMILIES[family]
    tensors = reader.select(read_checkpoint(checkpoint))
    if not tensors:
        raise CheckpointError(
            f'{checkpoint} does not look like a {family} file: expected {reader.layout}'
        )
    tensors = {k: v for k, v in tensors.items() if not k.startswith(reader.drop)}
    teacher = Teacher(arch=arch, pos_interpolation=reader.pos_interpolation, **overrides)
    fill_completely(teacher, tensors, f'{checkpoint} (read as {family})')
    teacher.loaded = True
    teacher.card = dict(
        family=family, file=Path(checkpoint).name, licence=reader.licence, digest=teacher.digest()
    )
    return teacher


def _tensors(content: Any) -> dict[str, Tensor]:
    if not isinstance(content, Mapping):
        return {}
    return {name: value for name, value in content.items() if isinstance(value, Tensor)}


def _below(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}


def _leave_out(module: Teacher, state_dict: dict, prefix: str, metadata: dict) -> None:
    """Remove the teacher's tensors from the state of a model that holds it."""
    if prefix:
        for name in [name for name in state_dict if name.startswith(prefix)]:
            del state_dict[name]


def _keep_own(module: Teacher, state_dict: dict, prefix: str, *_: Any) -> None:
    """Let a strict load of the holding model find the teacher's present tensors."""
    if prefix:
        state_dict.update({prefix + name: value for name, value in module.named_parameters()})
