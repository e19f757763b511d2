"""Leaving out patches whose tokens say what the others say already."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

Drops = Sequence[tuple[int, float]]


def redundancy(tokens: Tensor) -> Tensor:
    """Mean cosine of each token to the others: (B, n, D) -> (B, n); n is at least 2."""
    directions = F.normalize(tokens.float(), dim=-1)
    # Cosines to all, in one product with their sum; less the one to itself.
    total = (directions * directions.sum(1, keepdim=True)).sum(-1)
    return (total - directions.square().sum(-1)) / (tokens.shape[1] - 1)


def draw_survivors(score: Tensor, count: int, pool_ratio: float) -> Tensor:
    """Leave ``count`` of the most redundant tokens out, at random.

    Drawn without replacement, with equal chances, among the ``pool_ratio * count`` tokens of the
    highest score. At 1 those of the highest score go and nothing is random.

    Args:
        score: (B, n) redundancy.
        count: tokens that go, below n.
        pool_ratio: size of the pool in units of ``count``, at least 1.

    Returns:
        (B, n - count) indices of what stays, ascending.
    """
    pool = min(score.shape[1], max(count, round(pool_ratio * count)))
    order = score.argsort(dim=1, descending=True)
    candidates, rest = order[:, :pool], order[:, pool:]
    noise = torch.rand(candidates.shape, device=score.device)
    candidates = candidates.gather(1, noise.argsort(dim=1))
    return torch.cat([candidates[:, count:], rest], dim=1).sort(dim=1).values


def dropped_counts(num_patches: int, depth: int, drops: Drops) -> dict[int, int]:
    """How many patches go after which block.

    Args:
        num_patches: N.
        depth: blocks of the student.
        drops: (block, share): after this block, counted from 1, the share of the patches that are
            still there goes.

    Returns:
        block -> count.

    Raises:
        ValueError: blocks that do not rise or have no block after them, a share outside (0, 1), or
            fewer than two patches left.
    """
    counts, left = {}, num_patches
    for block, share in drops:
        if not max(counts, default=0) < block < depth:
            raise ValueError(
                f'drops={drops}: block {block}; expected rising blocks from 1 to {depth - 1}'
            )
        if not 0 < share < 1:
            raise ValueError(f'drops={drops}: share {share}; expected one between 0 and 1')
        counts[block] = round(share * left)
        left -= counts[block]
        if left < 2:
            raise ValueError(
                f'drops={drops} leave {left} of {num_patches} patches; expected at least 2'
            )
    return counts
