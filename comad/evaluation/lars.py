"""`Lars`: timm's LARS with the settings of MAE's linear probe."""

from collections.abc import Iterable
from typing import Any

import timm.optim
from mmengine.registry import OPTIMIZERS
from torch import nn


@OPTIMIZERS.register_module()
class Lars(timm.optim.Lars):
    """LARS (arXiv:1708.03888) that adapts matrices and leaves one-dimensional tensors to SGD.

    With momentum m, learning rate lr and trust coefficient t, a matrix w with gradient g moves by
    v <- m v + t |w| / |g| g, w <- w - lr v, and a bias by plain momentum SGD, as in MAE's linear
    probe. timm alone would skip the adaptation of a group without weight decay, which is exactly
    the probe's case. With weight decay d the ratio is timm's and the paper's,
    t |w| / (|g| + d |w|), times g + d w; one-dimensional tensors are never decayed.

    Args:
        params: Parameters or groups; every group is split by dimension and keeps its own settings.
        lr: Learning rate.
        momentum: m.
        weight_decay: d, of matrices.
        trust_coeff: t.
    """

    def __init__(
        self,
        params: Iterable[nn.Parameter] | Iterable[dict[str, Any]],
        lr: float,
        momentum: float = 0.9,
        weight_decay: float = 0.0,
        trust_coeff: float = 0.001,
    ) -> None:
        # eps 0: the ratio is exact, and timm sets it to 1 by itself where a norm is zero.
        super().__init__(
            _split(params),
            lr=lr,
            momentum=momentum,
            weight_decay=weight_decay,
            trust_coeff=trust_coeff,
            eps=0.0,
        )


def _split(params: Iterable[Any]) -> list[dict[str, Any]]:
    params = list(params)
    groups = params if params and isinstance(params[0], dict) else [{'params': params}]
    split = []
    for group in groups:
        members = list(group['params'])
        matrices = [p for p in members if p.ndim > 1]
        vectors = [p for p in members if p.ndim <= 1]
        if matrices:
            split.append({**group, 'params': matrices, 'always_adapt': True})
        if vectors:
            split.append({**group, 'params': vectors, 'always_adapt': False, 'weight_decay': 0.0})
    return split
