"""How far the heads of a ViT look, and how much their attention depends on the query.

Both are computed between patches: the class token and registers are left out, and the attention
over the patches is renormalised.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

import torch
from torch import Tensor, nn


class Statistics(NamedTuple):
    """Of one network: both (blocks, heads), averaged over images.

    Attributes:
        distance: mean attention distance in patches.
        nmi: normalised mutual information of query and key position, 0 to 1.
    """

    distance: Tensor
    nmi: Tensor


class AttentionSummary(NamedTuple):
    """Statistics by the name of the network, for a picture."""

    networks: dict[str, Statistics]


def attention_distance(attention: Tensor, grid: tuple[int, int]) -> Tensor:
    """Mean distance in patches between a query and what it attends to (arXiv:2010.11929, fig. 7).

    Args:
        attention: (..., N, N) weights, rows sum to 1; patches in raster order.
        grid: rows and columns of patches, N in all.

    Returns:
        (...), averaged over queries.
    """
    axes = [torch.arange(side, device=attention.device, dtype=attention.dtype) for side in grid]
    places = torch.cartesian_prod(*axes)
    return (attention * torch.cdist(places, places)).sum(-1).mean(-1)


def attention_nmi(attention: Tensor) -> Tensor:
    """I(q; k) / sqrt(H(q) H(k)) of query and key position (arXiv:2305.00729).

    Queries are equally likely, p(q, k) = attention[q, k] / N. 0 when all queries attend alike, 1
    when each attends to a patch of its own; 0 also when all attend to one and the same patch.

    Args:
        attention: (..., N, N) weights, rows sum to 1.

    Returns:
        (...).
    """
    N = attention.shape[-1]
    keys = torch.special.entr(attention.mean(-2)).sum(-1)  # H(k)
    information = keys - torch.special.entr(attention).sum(-1).mean(-1)  # H(k) - H(k | q)
    queries = torch.tensor(float(N), dtype=attention.dtype).log().to(attention.device)
    share = information / (queries * keys).clamp(min=1e-12).sqrt()
    return torch.where(keys > 1e-6, share, torch.zeros_like(share)).clamp(0, 1)


@torch.no_grad()
def attention_statistics(network: nn.Module, images: Tensor) -> Statistics:
    """Look at all heads of a `BlockNetwork` while it sees whole images (B, 3, H, W)."""
    grid, prefix = network.grid(images), network.num_prefix
    rows = []
    with evaluating(network):
        x = network.embed(images.to(next(network.parameters()).dtype))
        for block in range(network.depth):
            q, k, _ = network.qkv(x, block)
            logits = q[:, :, prefix:].float() @ k[:, :, prefix:].float().transpose(-1, -2)
            attention = (logits * q.shape[-1] ** -0.5).softmax(-1)
            found = attention_distance(attention, grid), attention_nmi(attention)
            rows.append([figure.mean(0) for figure in found])  # (heads,) twice
            x = network.run(x, block, block + 1)
    distances, shares = zip(*rows, strict=True)
    return Statistics(torch.stack(distances), torch.stack(shares))


@contextmanager
def evaluating(network: nn.Module) -> Iterator[None]:
    """Without dropped paths, and as before afterwards."""
    training = network.training
    network.eval()
    try:
        yield
    finally:
        network.train(training)
