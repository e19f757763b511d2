"""What joins the front of one network and the tail of another (arXiv:2410.12342).

The paper's figure names a patch embedding and a Swin block between convolution and attention. Its
details are not known here; those below are ours, and `FBT` has a field for each.
"""

import math
from typing import Protocol

import torch
from timm.models.swin_transformer import SwinTransformerBlock
from torch import Tensor, nn

from backbones.staged_table import CNN


class Staged(Protocol):
    """What is asked of a network that gives its front or its tail."""

    family: str
    num_prefix: int
    widths: tuple[int, ...]
    grids: tuple[int, ...]
    tail_width: int
    tail_grid: int


class LocalToGlobal(nn.Module):
    """Stage 3 of one network as it enters the tail of another.

    A convolution whose kernel and stride bring the one grid to the other and the width to the
    tail's, a LayerNorm, and one Swin block without shift.

    Args:
        front: The network whose stage 3 comes in.
        tail: The network whose tail goes on.
        block: Whether there is a Swin block.
        window: Of its attention, in places, at most.

    Raises:
        ValueError: a front whose grid is no multiple of the tail's.
    """

    def __init__(self, front: Staged, tail: Staged, block: bool = True, window: int = 7) -> None:
        super().__init__()
        fine, coarse, width = front.grids[2], tail.tail_grid, tail.tail_width
        if fine % coarse:
            raise ValueError(
                f'a stage 3 of {fine} x {fine} places cannot enter a tail of {coarse} x {coarse}'
            )
        stride = fine // coarse
        self.front, self.family, self.num_prefix = (front.family, front.num_prefix), tail.family, 0
        self.embed = nn.Conv2d(front.widths[2], width, stride, stride)
        self.norm = nn.LayerNorm(width)
        self.block = (
            SwinTransformerBlock(
                width, (coarse, coarse), heads_of(width), window_size=min(window, coarse)
            )
            if block
            else nn.Identity()
        )

    def forward(self, x: Tensor) -> Tensor:
        """Stage 3, map or tokens -> (B, C, H, W) for a CNN's tail, else patches (B, N, D)."""
        x = self.embed(to_map(x, *self.front)).permute(0, 2, 3, 1)
        x = self.block(self.norm(x))
        return x.permute(0, 3, 1, 2) if self.family == CNN else x.flatten(1, 2)


def heads_of(width: int) -> int:
    """Heads 32 wide, or the next wider ones that divide the width."""
    return next(heads for heads in range(max(1, width // 32), 0, -1) if width % heads == 0)


def to_map(x: Tensor, family: str, num_prefix: int) -> Tensor:
    """A stage as a map (B, C, H, W), class tokens left out."""
    if family == CNN:
        return x
    x = x[:, num_prefix:]
    edge = math.isqrt(x.shape[1])
    return x.mT.unflatten(2, (edge, edge))


def as_map(x: Tensor, network: Staged) -> Tensor:
    """`to_map` of a network's own stage."""
    return to_map(x, network.family, network.num_prefix)


def with_class_token(x: Tensor, token: Tensor | None) -> Tensor:
    """Patches (B, N, D) behind a class token (1, 1, D), where there is one."""
    return x if token is None else torch.cat([token.expand(len(x), -1, -1).to(x.dtype), x], dim=1)
