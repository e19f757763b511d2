"""CoMAD without its savings: what a step costs when dropped patches are only masked.

The same function of the same weights. Every network runs on all tokens of the image; patches that
it must not see are hidden from attention, and their outputs are thrown away at the end. Frozen
networks run under autocast like any other and under ``no_grad``. Nothing is compiled.
"""

import copy
from functools import partial

import torch
from torch import Tensor, nn

from backbones import MaskedViT
from backbones.teachers import FrozenTokens

from .workload import Workload

# Between two float32 computations of one loss; more means another function.
TOLERANCE = 1e-4


def straightforward(model: nn.Module) -> nn.Module:
    """A copy of a pretraining method whose networks run on all tokens.

    Raises:
        ValueError: a network that is no MaskedViT, such as a teacher of timm.
    """
    model = copy.deepcopy(model)
    for name, module in model.named_modules():
        if isinstance(module, MaskedViT):
            module.tokens = partial(all_tokens, module)
        elif isinstance(module, FrozenTokens):
            raise ValueError(f'{name}: there is no reference for {type(module).__name__}')
    return model


def all_tokens(network: MaskedViT, images: Tensor, keep: Tensor | None = None) -> Tensor:
    """`MaskedViT.tokens` by way of all N patches: (B, 1 + n, D) of the kept ones."""
    with torch.set_grad_enabled(torch.is_grad_enabled() and not network.frozen):
        x = network.embed(images)
        mask = None
        if keep is not None:
            mask = torch.zeros(x.shape[:2], dtype=torch.bool, device=x.device)
            mask = mask.scatter(1, keep + 1, True)
            mask[:, 0] = True
            mask = mask[:, None, None, :]
        for block in network.blocks:
            x = x + block.drop_path1(block.ls1(block.attn(block.norm1(x), attn_mask=mask)))
            x = x + block.drop_path2(block.ls2(block.mlp(block.norm2(x))))
        x = network.norm(x)
        if keep is None:
            return x
        index = (keep + 1).unsqueeze(-1).expand(-1, -1, x.shape[-1])
        return torch.cat([x[:, :1], x.gather(1, index)], dim=1)


@torch.no_grad()
def largest_difference(ours: Workload, other: Workload) -> float:
    """Of all losses of one step in float32, relative; the same masks are drawn for both.

    Raises:
        ValueError: more than `TOLERANCE`: they do not compute the same function.
    """
    found = []
    for workload in (ours, other):
        torch.manual_seed(0)
        data = workload.model.data_preprocessor(workload.batch, True)
        losses = workload.model(**data, mode='loss')
        found.append({name: float(value) for name, value in losses.items() if 'loss' in name})
    worst = max(
        abs(value - found[1][name]) / max(abs(found[1][name]), 1e-12)
        for name, value in found[0].items()
    )
    if not worst <= TOLERANCE:
        raise ValueError(
            f'the reference computes other losses: {found[1]} instead of {found[0]}; '
            f'relative difference {worst:.2g}, at most {TOLERANCE:g} is rounding'
        )
    return worst
