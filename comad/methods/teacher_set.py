"""Several frozen teachers whose patches are the student's."""

from collections.abc import Mapping, Sequence
from typing import Any

from torch import nn

from backbones import build_teacher


class TeacherSet(nn.ModuleList):
    """Frozen teachers, built in order and checked against the student's grid.

    A teacher of another patch size sees resized images, so that its grid is the student's (our
    choice).

    Args:
        teachers: per teacher the arguments of ``build_teacher``: family, checkpoint, arch, ...
        grid: the student's patches per column and row.
        masked: whether the method masks its teachers: then a teacher's ``mask_ratio`` is left for
            the method to read, else it is refused.

    Attributes:
        names: families, with a running number where one occurs twice.
        cards: family, file, licence and digest of each.
        dims: token widths D_k.
        depths: blocks of each.

    Raises:
        ValueError: without a teacher, with one of another grid or with a mask ratio not expected.
    """

    def __init__(
        self, teachers: Sequence[Mapping[str, Any]], grid: tuple[int, int], masked: bool = False
    ) -> None:
        super().__init__()
        if not teachers:
            raise ValueError('teachers is empty: expected at least one')
        self.names = unique([teacher['family'] for teacher in teachers])
        for name, teacher in zip(self.names, teachers, strict=True):
            if 'mask_ratio' in teacher and not masked:
                raise ValueError(
                    f'teacher {name} has mask_ratio={teacher["mask_ratio"]}: this method masks no '
                    'teacher by itself; expected none'
                )
            options = {key: value for key, value in teacher.items() if key != 'mask_ratio'}
            network = build_teacher(**{'grid': grid[0]} | options)
            if network.token_grid != grid:
                raise ValueError(
                    f'teacher {name} has a grid of {network.token_grid} patches, the student '
                    f'{grid}; expected equal grids, see grid= of build_teacher'
                )
            self.append(network)
        self.cards: list[dict[str, Any]] = [network.card for network in self]
        self.dims: list[int] = [network.embed_dim for network in self]
        self.depths: list[int] = [len(network.network.blocks) for network in self]


def unique(names: Sequence[str]) -> list[str]:
    """Names with a running number where one occurs twice."""
    numbered = [f'{name}{names[: i + 1].count(name)}' for i, name in enumerate(names)]
    return [n if names.count(n) == 1 else m for n, m in zip(names, numbered, strict=True)]
