"""Frozen teachers whose patches are the student's: how every method builds its own."""

from collections.abc import Mapping, Sequence
from typing import Any

from torch import nn

from backbones import build_teacher
from backbones.contract import check_offers
from comad.methods.parts.block_pairs import num_blocks

# What a method reads from a teacher's entry; everything else goes to ``build_teacher``.
OF_METHODS = ('mask_ratio', 'role')


class TeacherSet(nn.ModuleList):
    """Frozen teachers, built in order and checked for what the method reads of them.

    Of token networks the patches have to be the student's. A teacher of another patch size sees
    resized images, so that its grid is the student's (our choice).

    Args:
        teachers: per teacher the arguments of ``build_teacher``: family, checkpoint, arch, ...
        grid: the student's patches per column and row; only tokens ask for it.
        reads: keys of a teacher's entry that the method itself reads, of 'mask_ratio' and 'role';
            the others of these are refused.
        needs: what the method reads of its teachers: 'tokens', 'maps' or 'logits'.

    Attributes:
        names: families, with a running number where one occurs twice.
        cards: family, file, licence and digest of each.
        dims: token widths D_k, or those of pooled features.
        depths: blocks of each; of token networks only.

    Raises:
        ValueError: without a teacher, with one of another grid, one that does not offer what the
            method needs, or a key that the method does not read.
    """

    def __init__(
        self,
        teachers: Sequence[Mapping[str, Any]],
        grid: tuple[int, int] | None = None,
        reads: Sequence[str] = (),
        needs: str = 'tokens',
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
            network = build_teacher(**({'grid': grid[0]} if grid else {}) | options)
            check_offers(network, needs, f'teacher {name}')
            if needs == 'tokens' and network.token_grid != grid:
                raise ValueError(
                    f'teacher {name} has a grid of {network.token_grid} patches, the student '
                    f'{grid}; expected equal grids, see grid= of build_teacher'
                )
            self.append(network)
        self.cards: list[dict[str, Any]] = [network.card for network in self]
        self.dims: list[int] = [network.embed_dim for network in self]
        self.depths: list[int] = [num_blocks(network) for network in self if needs == 'tokens']


def unique(names: Sequence[str]) -> list[str]:
    """Names with a running number where one occurs twice."""
    numbered = [f'{name}{names[: i + 1].count(name)}' for i, name in enumerate(names)]
    return [n if names.count(n) == 1 else m for n, m in zip(names, numbered, strict=True)]
