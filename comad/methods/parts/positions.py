"""Fixed 2-D sin-cos position tables, in the two orders that the official code bases use."""

import torch
from torch import Tensor, nn

POSITIONS = ('sincos', 'learned')


def sincos_positions(embed_dim: int, grid_size: int, first: str) -> Tensor:
    """A fixed position table for one cls token and a square grid of patches.

    Both orders hold the same numbers with the two image axes exchanged, so a table must never be
    regenerated for a checkpoint of the other origin.

    Args:
        embed_dim: token width D, a multiple of 4.
        grid_size: patches per side G.
        first: which coordinate the first D/2 channels encode, ``'w'`` as in MAE or ``'h'`` as in
            MoCo v3 (official code of each).

    Returns:
        (1, 1 + G*G, D) float32; the row of the cls token is zero.

    Raises:
        ValueError: if D is no multiple of 4 or ``first`` is neither 'w' nor 'h'.
    """
    if embed_dim % 4:
        raise ValueError(f'embed_dim={embed_dim}: sin-cos positions need a multiple of 4')
    if first not in ('w', 'h'):
        raise ValueError(f"first={first!r}: expected 'w' (MAE) or 'h' (MoCo v3)")
    frequencies = 10000.0 ** -(torch.arange(embed_dim // 4, dtype=torch.float64) * 4 / embed_dim)
    steps = torch.arange(grid_size, dtype=torch.float64)
    rows, columns = torch.meshgrid(steps, steps, indexing='ij')
    order = (columns, rows) if first == 'w' else (rows, columns)
    parts = []
    for coordinate in order:
        angles = coordinate.reshape(-1, 1) * frequencies
        parts += [angles.sin(), angles.cos()]
    table = torch.cat([torch.zeros(1, embed_dim, dtype=torch.float64), torch.cat(parts, dim=1)])
    return table.float().unsqueeze(0)


@torch.no_grad()
def fix_positions(backbone: nn.Module, first: str) -> None:
    """Replace a backbone's position table by the sin-cos one and stop training it, in place.

    Args:
        backbone: a MaskedViT with ``pos_embed`` (1, 1 + N, D).
        first: see :func:`sincos_positions`.
    """
    table = sincos_positions(backbone.embed_dim, backbone.grid_size[0], first)
    backbone.pos_embed.copy_(table)
    backbone.pos_embed.requires_grad_(False)


def choose_positions(backbone: nn.Module, positions: str) -> None:
    """Fix a student's positions to the sin-cos table, w first, or leave them learned, in place.

    A network without a position table has nothing to choose.

    Args:
        backbone: a student.
        positions: 'sincos' or 'learned'.

    Raises:
        ValueError: on another name.
    """
    if positions not in POSITIONS:
        raise ValueError(f'positions={positions!r}: expected one of {", ".join(POSITIONS)}')
    if positions == 'sincos' and hasattr(backbone, 'pos_embed'):
        fix_positions(backbone, first='w')
