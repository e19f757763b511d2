"""Position tables of ViTs brought to another grid, in the ways of the official codes."""

import torch
import torch.nn.functional as F
from torch import Tensor

POSITION_RULES = ('bicubic', 'bicubic_offset', 'bicubic_antialias')


def resize_table(
    table: Tensor, grid: tuple[int, int], wanted: tuple[int, int], rule: str = 'bicubic'
) -> Tensor:
    """A table (1, 1 + N, D) for another grid; the row of the class token is never interpolated.

    Args:
        table: For ``grid``, rows of patches in raster order behind that of the class token.
        grid: Rows and columns.
        wanted: Rows and columns of the new table.
        rule: One of `POSITION_RULES`; see `MaskedViT`.

    Raises:
        ValueError: the factors of ``bicubic_offset`` lead to another grid.
    """
    cls, patches = table[:, :1], table[:, 1:]
    patches = patches.reshape(1, *grid, -1).permute(0, 3, 1, 2).float()
    if rule != 'bicubic_offset':
        antialias = rule == 'bicubic_antialias'
        patches = F.interpolate(patches, size=wanted, mode='bicubic', antialias=antialias)
    else:
        factors = tuple((new + 0.1) / old for new, old in zip(wanted, grid, strict=True))
        patches = F.interpolate(patches, scale_factor=factors, mode='bicubic')
        if tuple(patches.shape[-2:]) != wanted:
            raise ValueError(f'position table became {tuple(patches.shape[-2:])}, not {wanted}')
    return torch.cat([cls, patches.flatten(2).transpose(1, 2).to(cls.dtype)], dim=1)
