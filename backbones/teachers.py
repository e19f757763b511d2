"""Frozen teachers: official files of MAE, MoCo v3, iBOT, DINO, DINOv2, VideoMAE and AMD, what timm
builds with patch tokens or maps (DINOv3, SigLIP, CLIP, EVA-02, Swin, ConvNeXt, ResNet, ...), and
students of this suite.

`contents` and `timm_files` pick one network out of a file and set aside what is known not to
belong to the backbone. Whatever is left must fill the network completely, else it stops.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Any

from torch import nn

from .architectures import VIT, network_type
from .checkpoints import (
    CheckpointError,
    check_pin,
    fill_completely,
    find_file,
    read_card,
    read_checkpoint,
)
from .contents import Network, choose_network, detect_family, find_networks
from .families import FAMILIES, TIMM_NETWORKS, VIDEO_FAMILIES
from .frozen import Frozen, FrozenNetwork, FrozenTokens
from .model_folders import describe
from .names import meant
from .networks import build_network
from .student import check_architecture, read_student
from .timm_files import Found, OtherSize, read_timm
from .timm_tokens import TimmTokens
from .video_files import read_video_network
from .video_vit import NETWORK, MaskedVideoViT
from .vit import MaskedViT

OTHERS = ('timm', 'student', 'auto')
WHOLE_IMAGE = 'whole image'  # what a network sees that cannot leave patches out

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


def is_untrained() -> bool:
    """Whether teachers that are built now read no file."""
    return _UNTRAINED.get()


class Teacher(FrozenTokens, MaskedViT):
    """A frozen `MaskedViT`."""

    def __init__(self, **options: Any) -> None:
        super().__init__(frozen=True, **options)
        self.freeze()


class VideoTeacher(FrozenTokens, MaskedVideoViT):
    """A frozen `MaskedVideoViT`; its clips are the student's, since its positions are fixed."""

    def __init__(self, **options: Any) -> None:
        super().__init__(frozen=True, **options)
        self.freeze()

    def fit_grid(self, grid: int, cell: int | None = None) -> None:
        """Clips are never resized: whoever compares the grids finds another one."""


class TimmTeacher(FrozenTokens, TimmTokens):
    """A frozen network of timm."""

    def __init__(self, model: str, **options: Any) -> None:
        super().__init__(model, **options)
        self.freeze()

    @property
    def network(self) -> nn.Module:
        """The module that a weight file fills."""
        return self.net


def build_teacher(
    family: str,
    checkpoint: str | Path,
    arch: str = 'base',
    model: str | None = None,
    grid: int | None = None,
    cell: int | None = None,
    name: str | None = None,
    sha256: str | None = None,
    md5: str | None = None,
    **overrides: Any,
) -> Frozen:
    """Build a frozen teacher and fill all of it from a weight file.

    Args:
        family: ``mae``, ``mocov3``, ``ibot``, ``dino``, ``dinov2``; ``videomae`` and ``amd_video``
            for networks on video; a name in ``TIMM_NETWORKS`` (``dinov3_vitb16``, ``siglip2``) or
            ``timm`` for what it builds with patch tokens or maps; ``student`` for a
            ``student.safetensors`` of any registered architecture; or ``auto`` to tell an official
            family from the file's content.
        checkpoint: An official file, the same weights as timm or transformers save them, a file
            of ``tools/weights.py convert``, or a directory with one of these. A ``config.json``
            beside the weights of a network of timm says which one it is.
        arch: Architecture of the file; ``overrides`` replace entries (embed_dim, depth, num_heads,
            patch_size, img_size).
        model: Name of the timm model, for ``family='timm'`` only; needless where a ``config.json``
            tells it.
        grid, cell: Places per side that are wanted, and their edge in pixels of the student; see
            `FrozenTokens.fit_grid`.
        name: What its card calls it; the family by default.
        sha256, md5: Digests of the file, or their first digits (MAE publishes six of an md5).

    Raises:
        CheckpointError: the file is missing, of another family or architecture, or incomplete.
        ValueError: unknown family or model, a model without family timm, or a malformed pin.
    """
    if family not in (*FAMILIES, *TIMM_NETWORKS, *VIDEO_FAMILIES, *OTHERS):
        known = (*FAMILIES, *TIMM_NETWORKS, *VIDEO_FAMILIES, *OTHERS)
        near = meant(family, known)
        raise ValueError(f'teacher family {family!r} is unknown{near}; known: {", ".join(known)}')
    if model is not None and family != 'timm':
        raise ValueError(f"teacher family {family!r}: model= is for family='timm', which needs it")
    if _UNTRAINED.get():
        teacher = _untrained_teacher(family, checkpoint, arch, model, overrides)
        return _finish(teacher, dict(family=name or family, untrained=True), grid, cell)
    path = find_file(checkpoint)
    check_pin(path, sha256, md5)
    said = ''
    if _is_timm(family):
        options = _timm_options(family, checkpoint, model, overrides)
        teacher, found = _timm_teacher(options, path)
        tensors, licence, said = found.tensors, teacher.licence, found.said
    elif family == 'student':
        teacher = _student_network(arch, overrides)
        tensors, card = read_student(path)
        check_architecture(card, teacher.network.architecture(), path)
        licence = card.get('licence') or 'not stated by its card'
    elif family in VIDEO_FAMILIES:
        teacher, licence = VideoTeacher(arch=arch, **overrides), VIDEO_FAMILIES[family].licence
        tensors = read_video_network(family, read_checkpoint(path), str(path))
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
    card = dict(family=name or family, file=path.name, licence=licence)
    return _finish(teacher, card | ({'read': said} if said else {}), grid, cell)


def _finish(teacher: Frozen, card: dict[str, Any], grid: int | None, cell: int | None) -> Frozen:
    """Fit a teacher to the student's grid, and say in its card what it sees."""
    if grid is not None and isinstance(teacher, FrozenTokens):
        teacher.fit_grid(grid, cell)
    valued = not next(teacher.parameters()).is_meta  # a network that is only counted has no values
    teacher.card = card | ({'digest': teacher.digest()} if valued else {})
    if teacher.input_size:
        teacher.card['input_size'] = teacher.input_size
    if not getattr(teacher, 'drops', True):
        teacher.card['sees'] = WHOLE_IMAGE
    return teacher


def _is_timm(family: str) -> bool:
    return family == 'timm' or family in TIMM_NETWORKS


def _timm_options(
    family: str, checkpoint: str | Path, model: str | None, overrides: Mapping[str, Any]
) -> dict[str, Any]:
    """Arguments of `TimmTeacher`: as named, else as the folder describes, else the table's.

    Raises:
        ValueError: none of them names a network.
    """
    described = describe(checkpoint) if model is None else None
    if described is not None:
        statistics = dict(mean=described.mean, std=described.std)
        return {'model': described.model, **statistics, **described.arguments, **overrides}
    name = model or TIMM_NETWORKS.get(family)
    if name is None:
        raise ValueError(
            f"teacher family='timm': {checkpoint} has no config.json that tells the network; "
            "model= names it, as in model='vit_base_patch16_dinov3'"
        )
    return {'model': name, **overrides}


def _timm_teacher(options: Mapping[str, Any], path: Path) -> tuple[TimmTeacher, Found]:
    """A network of timm and its tensors, for images of the size that the positions are made for."""
    teacher, content = TimmTeacher(**options), read_checkpoint(path)
    try:
        return teacher, read_timm(content, teacher.net, path)
    except OtherSize as other:
        if 'img_size' in options:
            raise
        teacher = TimmTeacher(**options, img_size=other.size)
        return teacher, read_timm(content, teacher.net, path)


def _untrained_teacher(
    family: str,
    checkpoint: str | Path,
    arch: str,
    model: str | None,
    overrides: Mapping[str, Any],
) -> Frozen:
    """The same network with random weights, see `untrained_teachers`."""
    if _is_timm(family):
        return TimmTeacher(**_timm_options(family, checkpoint, model, overrides))
    if family == 'student':
        return _student_network(arch, overrides)
    if family in VIDEO_FAMILIES:
        return VideoTeacher(arch=arch, **overrides)
    options = FAMILIES[family].options if family in FAMILIES else {}
    return Teacher(arch=arch, **{**options, **overrides})


def _student_network(arch: str, overrides: Mapping[str, Any]) -> Frozen:
    """A frozen network of a registered architecture."""
    if network_type(arch) == VIT:
        return Teacher(arch=arch, **overrides)
    if network_type(arch) == NETWORK:
        return VideoTeacher(arch=arch, **overrides)
    return FrozenNetwork(build_network(arch, **overrides))


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
        if isinstance(family, str) and family in FAMILIES:
            return family, f'by its card {card.name}'
    try:
        return detect_family(content, networks)
    except CheckpointError as error:
        raise CheckpointError(f'{path}: its family cannot be told: {error}') from error
