"""ViTDet's decomposed relative positions: two small tables per block, added to the attention.

From ViTDet (arXiv:2203.16527), which takes the decomposition into rows and columns from MViTv2
(arXiv:2112.01526) and starts from zero. Details follow Detectron2's code: queries enter the bias
before they are scaled, and a table made for another size is interpolated linearly.

Shape letters: B images or windows, h heads, H and W the token grid, T = H W, c = D / h.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

TABLES = ('rel_pos_h', 'rel_pos_w')


def add_tables(attention: nn.Module, side: int) -> None:
    """Give a timm attention zero tables (2 side - 1, c) for the rows and columns of its grid."""
    for name in TABLES:
        table = torch.zeros(2 * side - 1, attention.head_dim)
        attention.register_parameter(name, nn.Parameter(table))


def is_table(name: str) -> bool:
    """Whether a parameter's name is that of such a table."""
    return name.rpartition('.')[2] in TABLES


def attend(attention: nn.Module, x: Tensor, grid: tuple[int, int]) -> Tensor:
    """timm's attention with the tables' bias on its logits: tokens (B, T, D) -> (B, T, D).

    Token (i, j) as a query and (k, l) as a key add ``q . R_h[i - k] + q . R_w[j - l]``.
    """
    B, T, _ = x.shape
    packed = attention.qkv(x).reshape(B, T, 3, attention.num_heads, -1).permute(2, 0, 3, 1, 4)
    q, k, v = packed.unbind(0)
    y = F.scaled_dot_product_attention(q, k, v, attn_mask=bias(attention, q, grid))
    return attention.proj_drop(attention.proj(y.transpose(1, 2).reshape(B, T, -1)))


def bias(attention: nn.Module, q: Tensor, grid: tuple[int, int]) -> Tensor:
    """What unscaled queries (B, h, T, c) add to the attention logits: (B, h, T, T)."""
    height, width = grid
    q = q.unflatten(2, grid)
    rows = distances(attention.rel_pos_h, height).to(q.dtype)
    columns = distances(attention.rel_pos_w, width).to(q.dtype)
    by_row = torch.einsum('bnhwc,hkc->bnhwk', q, rows)
    by_column = torch.einsum('bnhwc,wkc->bnhwk', q, columns)
    total = by_row[..., :, None] + by_column[..., None, :]
    return total.flatten(4).flatten(2, 3).to(q.dtype)


def distances(table: Tensor, side: int) -> Tensor:
    """Table rows of every query and key position along one axis: (L, c) -> (side, side, c)."""
    length = 2 * side - 1
    if table.shape[0] != length:
        resized = F.interpolate(table.float().T[None], size=length, mode='linear')
        table = resized[0].T
    positions = torch.arange(side, device=table.device)
    return table[positions[:, None] - positions[None, :] + side - 1]
