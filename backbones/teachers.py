"""Frozen teachers: official files of MAE, MoCo v3, iBOT, DINO and DINOv2, and any timm ViT.

`families` picks one network out of a file and sets aside what is known not to belong to the
backbone. Whatever is left must fill the network completely, else it stops.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .checkpoints import (
    CheckpointError,
    check_pin,
    fill_completely,
    find_file,
    read_card,
    read_checkpoint,
    tensor_digest,
)
from .families import FAMILIES, Network, choose_network, detect_family, find_networks
from .timm_tokens import TimmTokens
from .vit import MaskedViT

_UNTRAINED: ContextVar[bool] = ContextVar('untrained_teachers', default=False)


@contextmanager
def untrained_teachers() -> Iterator[None]:
    """Teachers built inside read no file: random weights, to count operations and measure speed.

    Their cards say ``untrained``.
    """
    token = _UNTRAINED.set(True)
    try:
        yield
    finally:
        _UNTRAINED.reset(token)


class FrozenTokens(nn.Module):
    """Mixin of teachers: nothing changes them by accident.

    They stay in eval mode, are never initialised again and are neither saved into nor expected in
    a checkpoint of the model that holds them: three ViT-B would add a gigabyte to every file.

    Under autocast a teacher casts its weights once, for good, and then computes in that type
    throughout, normalisation included: autocast itself would cast 86 million weights at every step
    and move twice the bytes between its layers.

    Attributes:
        card: family, file, licence and digest, as stated in the cards of its students.
        token_grid: Patches per column and row of the images that it sees.
        input_size: Edge in pixels to which images are resized first; None takes them as they are.
    """

    card: dict[str, Any]
    token_grid: tuple[int, int]
    input_size: int | None = None

    def freeze(self) -> None:
        """Make it a teacher; called once, at the end of the constructor."""
        self.card, self.token_grid = {}, self.grid_size
        self._cast_digest: str | None = None
        self.requires_grad_(False)
        self.register_state_dict_post_hook(_leave_out)
        self.register_load_state_dict_pre_hook(_keep_own)
        self.eval()

    def init_weights(self, *args: Any, **options: Any) -> None:
        """timm's initialisation while being built, nothing once frozen.

        MMEngine calls it on every part of a model, after the file has been read.
        """
        if 'card' not in self.__dict__:
            super().init_weights(*args, **options)

    def train(self, mode: bool = True) -> 'FrozenTokens':
        """Stay in eval mode."""
        return super().train(False)

    def cast(self, dtype: torch.dtype) -> None:
        """Change the type of all weights, which `unchanged` then takes for its own."""
        if dtype != next(self.parameters()).dtype:
            intact = self.unchanged()
            self.to(dtype)
            self._cast_digest = self.digest() if intact else 'changed before it was cast'

    def unchanged(self) -> bool:
        """Whether the weights are those of the file, or what `cast` made of them."""
        return self.digest() == (self._cast_digest or self.card['digest'])

    def compile_tokens(self, **options: Any) -> None:
        """Compile the network in place, once per number of tokens; ``options`` of torch.compile."""
        self._network_tokens = torch.compile(self._network_tokens, dynamic=False, **options)

    def _network_tokens(
        self, images: Tensor, keep: Tensor | None, layers: list[int] | None
    ) -> Tensor | list[Tensor]:
        return super().tokens(images, keep, layers)

    @torch.inference_mode()
    def _frozen_tokens(self, images: Tensor, keep: Tensor | None, layers: list[int] | None) -> Any:
        with torch.autocast(images.device.type, enabled=False):
            images = images.to(next(self.parameters()).dtype)
            if self.input_size and images.shape[-2:] != (self.input_size,) * 2:
                size = (self.input_size,) * 2
                images = F.interpolate(
                    images, size, mode='bicubic', antialias=True, align_corners=False
                )
            return self._network_tokens(images, keep, layers)

    def tokens(
        self, images: Tensor, keep: Tensor | None = None, layers: list[int] | None = None
    ) -> Tensor | list[Tensor]:
        """As `MaskedViT.tokens`, without a graph; the result may take part in one."""
        kind = images.device.type
        if torch.is_autocast_enabled(kind):
            self.cast(torch.get_autocast_dtype(kind))
        out = self._frozen_tokens(images, keep, layers)
        # An inference tensor cannot be saved for backward; its copy can.
        return [x.clone() for x in out] if isinstance(out, list) else out.clone()

    def fit_grid(self, grid: int) -> None:
        """Resize images from now on so that they are ``grid`` patches wide.

        Does nothing if the teacher's own images are; other patch sizes than the student's need it.
        """
        if self.grid_size != (grid, grid):
            self.input_size, self.token_grid = grid * self.patch_size, (grid, grid)

    @property
    def network(self) -> nn.Module:
        """The module that a weight file fills."""
        return self

    def digest(self) -> str:
        """sha256 of all tensors; changes if anything touched the teacher."""
        return tensor_digest(self.named_parameters())


class Teacher(FrozenTokens, MaskedViT):
    """A frozen `MaskedViT`."""

    def __init__(self, **options: Any) -> None:
        super().__init__(frozen=True, **options)
        self.freeze()


class TimmTeacher(FrozenTokens, TimmTokens):
    """A frozen timm ViT."""

    def __init__(self, model: str, **overrides: Any) -> None:
        super().__init__(model, **overrides)
        self.freeze()

    @property
    def network(self) -> nn.Module:
        """The module that a weight file fills."""
        return self.vit


def build_teacher(
    family: str,
    checkpoint: str | Path,
    arch: str = 'base',
    model: str | None = None,
    grid: int | None = None,
    sha256: str | None = None,
    md5: str | None = None,
    **overrides: Any,
) -> FrozenTokens:
    """Build a frozen teacher and fill all of it from a weight file.

    Args:
        family: ``mae``, ``mocov3``, ``ibot``, ``dino``, ``dinov2``, ``timm``, or ``auto`` to tell
            it from the file's content.
        checkpoint: An official file, the same weights as timm or transformers save them, a file
            of ``tools/weights.py convert``, or a directory with one of these.
        arch: Architecture of the file; ``overrides`` replace entries (embed_dim, depth, num_heads,
            patch_size, img_size).
        model: Name of the timm model, for ``family='timm'`` only.
        grid: Patches per side that are wanted: images are resized to fit, positions interpolated.
        sha256, md5: Digests of the file, or their first digits (MAE publishes six of an md5).

    Raises:
        CheckpointError: the file is missing, of another family or architecture, or incomplete.
        ValueError: unknown family, a model without family timm, or a malformed pin.
    """
    if family not in (*FAMILIES, 'timm', 'auto'):
        known = ', '.join((*FAMILIES, 'timm', 'auto'))
        raise ValueError(f'teacher family {family!r} is unknown; known: {known}')
    if (family == 'timm') != (model is not None):
        raise ValueError(f"teacher family {family!r}: model= is for family='timm', which needs it")
    if _UNTRAINED.get():
        return _untrained_teacher(family, arch, model, grid, overrides)
    path = find_file(checkpoint)
    check_pin(path, sha256, md5)
    if family == 'timm':
        teacher = TimmTeacher(model, **overrides)
        tensors, licence = teacher.select(read_checkpoint(path), path), teacher.licence
    else:
        content = read_checkpoint(path)
        networks = find_networks(content)
        if family == 'auto':
            family, _ = tell_family(path, content, networks)
        network, licence = choose_network(family, networks), FAMILIES[family].licence
        if network is None:
            raise CheckpointError(
                f'{path} does not look like a {family} file: expected {FAMILIES[family].layout}'
            )
        teacher = Teacher(arch=arch, **network_options(family, network, overrides))
        tensors = network.split()[0]
    fill_completely(teacher.network, tensors, f'{path} (read as {family})')
    teacher.loaded = True
    if grid is not None:
        teacher.fit_grid(grid)
    teacher.card = dict(family=family, file=path.name, licence=licence, digest=teacher.digest())
    if teacher.input_size:
        teacher.card['input_size'] = teacher.input_size
    return teacher


def _untrained_teacher(
    family: str, arch: str, model: str | None, grid: int | None, overrides: Mapping[str, Any]
) -> FrozenTokens:
    """The same network with random weights, see `untrained_teachers`."""
    if family == 'timm':
        teacher: FrozenTokens = TimmTeacher(model, **overrides)
    else:
        options = FAMILIES[family].options if family in FAMILIES else {}
        teacher = Teacher(arch=arch, **{**options, **overrides})
    if grid is not None:
        teacher.fit_grid(grid)
    teacher.card = dict(family=family, untrained=True, digest=teacher.digest())
    return teacher


def network_options(family: str, network: Network, overrides: Mapping[str, Any]) -> dict[str, Any]:
    """Arguments of `Teacher` besides the architecture's name, for a network of a family."""
    rule = FAMILIES[family].pos_interpolation
    options = dict(FAMILIES[family].options)
    if 'reg_token' in network.tensors:
        options['reg_tokens'] = network.tensors['reg_token'].shape[1]
        rule = 'bicubic_antialias'
    return {**options, 'pos_interpolation': rule, **overrides}


def tell_family(
    path: Path, content: Mapping[str, Any], networks: Mapping[str, Network]
) -> tuple[str, str]:
    """Family and evidence of a file: by the card of a converted one, else by its content.

    Raises:
        CheckpointError: neither tells it.
    """
    card = path.with_suffix('.json')
    if path.suffix == '.safetensors' and card.is_file():
        family = read_card(card).get('family')
        if family in FAMILIES:
            return family, f'by its card {card.name}'
    try:
        return detect_family(content, networks)
    except CheckpointError as error:
        raise CheckpointError(f'{path}: its family cannot be told: {error}') from error


def _leave_out(module: nn.Module, state_dict: dict, prefix: str, metadata: dict) -> None:
    """Remove the teacher's tensors from the state of a model that holds it."""
    if prefix:
        for name in [name for name in state_dict if name.startswith(prefix)]:
            del state_dict[name]


def _keep_own(module: nn.Module, state_dict: dict, prefix: str, *_: Any) -> None:
    """Let a strict load of the holding model find the teacher's present tensors."""
    if prefix:
        state_dict.update({prefix + name: value for name, value in module.named_parameters()})
