"""What methods with one teacher per purpose share: building it, and pairing blocks with its."""

from collections.abc import Mapping, Sequence
from typing import Any

from torch import nn

from backbones import build_teacher

Pairs = Sequence[tuple[int, int]]


def build_on_grid(backbone: nn.Module, options: Mapping[str, Any]) -> nn.Module:
    """A frozen teacher whose patches are the student's.

    Args:
        backbone: the student; images are resized for a teacher of another patch size.
        options: arguments of ``build_teacher``.

    Raises:
        ValueError: its grid of patches is another one.
    """
    teacher = build_teacher(**{'grid': backbone.grid_size[0]} | dict(options))
    if teacher.token_grid != backbone.grid_size:
        raise ValueError(
            f'teacher {options["family"]} has a grid of {teacher.token_grid} patches, the student '
            f'{backbone.grid_size}; expected equal grids, see grid= of build_teacher'
        )
    return teacher


def num_blocks(network: nn.Module) -> int:
    """Depth of a student or of a teacher, timm's too."""
    return len(getattr(network, 'network', network).blocks)


def check_pairs(name: str, pairs: Pairs, depths: tuple[int, int], first: int = 1) -> Pairs:
    """Pairs of blocks (student, teacher), counted from 1, as sorted tuples.

    Args:
        name: of the option, for the message.
        pairs: as given.
        depths: blocks of student and teacher.
        first: the lowest block allowed.

    Raises:
        ValueError: no pairs, one that occurs twice, or a block that does not exist.
    """
    found = sorted({(int(student), int(teacher)) for student, teacher in pairs})
    outside = [p for p in found if not all(first <= b <= d for b, d in zip(p, depths, strict=True))]
    if not found or len(found) != len(pairs) or outside:
        raise ValueError(
            f'{name}={list(pairs)}: expected different pairs of blocks (student, teacher) from '
            f'({first}, {first}) to {depths}'
        )
    return found
