"""Frozen teachers whose patches are the student's: how every method builds its own."""

from collections.abc import Mapping, Sequence
from typing import Any

from mmengine.logging import MMLogger
from torch import nn

from backbones import build_teacher
from backbones.contract import check_offers
from comad.methods.parts.block_pairs import num_blocks

# What a method reads from a teacher's entry; everything else goes to ``build_teacher``.
OF_METHODS = ('mask_ratio', 'role')


class TeacherSet(nn.ModuleList):
    """Frozen teachers, built in order and checked for what the method reads of them.

    Of token networks the places have to be the student's: a teacher of another patch size sees
    resized images, or its patches are averaged per place, and the map of one that cannot leave
    patches out is resampled (our choice), see `FrozenTokens.fit_grid`.

    Args:
        teachers: per teacher the arguments of ``build_teacher``: family, checkpoint, arch, ...
        grid: the student's patches per column and row; only tokens ask for it.
        cell: edge in pixels of a place of that grid where it is a cell of a map, no patch.
        reads: keys of a teacher's entry that the method itself reads, of 'mask_ratio' and 'role';
            the others of these are refused.
        needs: what the method reads of its teachers: 'tokens', 'maps' or 'logits'.

    Attributes:
        names: families, or the entries' own names, with a running number where one occurs twice.
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
        cell: int | None = None,
    ) -> None:
        super().__init__()
        if not teachers:
            raise ValueError('teachers is empty: expected at least one')
        self.names = unique([teacher.get('name') or teacher['family'] for teacher in teachers])
        for name, teacher in zip(self.names, teachers, strict=True):
            for key in OF_METHODS:
                if key in teacher and key not in reads:
                    raise ValueError(
                        f'teacher {name} has {key}={teacher[key]!r}, which this method does not '
                        'read; expected none'
                    )
            options = {key: value for key, value in teacher.items() if key not in OF_METHODS}
            fitted = {'grid': grid[0], 'cell': cell} if grid else {}
            network = build_teacher(**fitted | options)
            if said := network.card.get('read'):
                MMLogger.get_current_instance().info(f'teacher {name}: {said}')
            check_offers(network, needs, f'teacher {name}')
            if needs == 'tokens' and network.token_grid != grid:
                raise ValueError(
                    f'teacher {name} has a grid of {network.token_grid} patches, the student '
                    f'{grid}; expected equal grids, see grid= of build_teacher'
                )
            self.append(network)
        self.cards: list[dict[str, Any]] = [network.card for network in self]
        self.dims: list[int] = [network.embed_dim for network in self]
        # Networks that are read after their last stage only have no blocks to choose from.
        self.depths: list[int] = [
            num_blocks(network) if network.drops else 0 for network in self if needs == 'tokens'
        ]


def unique(names: Sequence[str]) -> list[str]:
    """Names with a running number where one occurs twice."""
    numbered = [f'{name}{names[: i + 1].count(name)}' for i, name in enumerate(names)]
    return [n if names.count(n) == 1 else m for n, m in zip(names, numbered, strict=True)]


def cell_of(backbone: nn.Module) -> int | None:
    """Edge in pixels of a student's token where it is a cell of a map; None of patches of a ViT."""
    return None if hasattr(backbone, 'embed') else backbone.patch_size
