"""Frozen teachers whose patches are the student's: how every method builds its own."""

from collections.abc import Mapping, Sequence
from typing import Any

from torch import nn

from backbones import build_teacher
from comad.methods.parts.block_pairs import num_blocks

# What a method reads from a teacher's entry; everything else goes to ``build_teacher``.
OF_METHODS = ('mask_ratio', 'role')


class TeacherSet(nn.ModuleList):
    """Frozen teachers, built in order and checked against the student's grid.

    A teacher of another patch size sees resized images, so that its grid is the student's (our
    choice).

    Args:
        teachers: per teacher the arguments of ``build_teacher``: family, checkpoint, arch, ...
        grid: the student's patches per column and row.
        reads: keys of a teacher's entry that the method itself reads, of 'mask_ratio' and 'role';
            the others of these are refused.

    Attributes:
        names: families, with a running number where one occurs twice.
        cards: family, file, licence and digest of each.
        dims: token widths D_k.
        depths: blocks of each.

    Raises:
        ValueError: without a teacher, with one of another grid or with a key that the method does
            not read.
    """

    def __init__(
        self,
        teachers: Sequence[Mapping[str, Any]],
        grid: tuple[int, int],
        reads: Sequence[str] = (),
    ) -> None:
        super().__init__()
        if not teachers:
            raise ValueError('teachers is empty: expected at least one')
        self.names = unique([teacher['family'] for teacher in teachers])
        for name, teacher in zip(self.names, teachers, strict=True):
            for key in OF_METHODS:
                if key in teacher and key not in reads:
                    raise ValueError(
                        f'teacher {name} has {key}={teacher[key]!r}, which this method does not '
                        'read; expected none'
                    )
            options = {key: value for key, value in teacher.items() if key not in OF_METHODS}
            network = build_teacher(**{'grid': grid[0]} | options)
            if network.token_grid != grid:
                raise ValueError(
                    f'teacher {name} has a grid of {network.token_grid} patches, the student '
                    f'{grid}; expected equal grids, see grid= of build_teacher'
                )
            self.append(network)
        self.cards: list[dict[str, Any]] = [network.card for network in self]
        self.dims: list[int] = [network.embed_dim for network in self]
        self.depths: list[int] = [num_blocks(network) for network in self]


def unique(names: Sequence[str]) -> list[str]:
    """Names with a running number where one occurs twice."""
    numbered = [f'{name}{names[: i + 1].count(name)}' for i, name in enumerate(names)]
    return [n if names.count(n) == 1 else m for n, m in zip(names, numbered, strict=True)]
