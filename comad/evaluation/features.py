"""Pooled image features of a frozen backbone, the input of the linear probe and of k-NN."""

from collections.abc import Sequence
from typing import Any

import torch
from mmengine.model import BaseModel
from mmengine.registry import MODELS
from torch import Tensor

from backbones import MaskedViT

# Pool -> feature width as a multiple of the backbone's.
WIDTHS = {'cls': 1, 'mean': 1, 'cls_mean': 2, 'cls4': 4}
POOLS = ('cls', 'mean')


def check_pools(pools: Sequence[str]) -> tuple[str, ...]:
    """The pools as a tuple; ValueError when one is unknown or given twice."""
    pools = tuple(pools)
    if not pools or len(set(pools)) < len(pools) or not set(pools) <= set(WIDTHS):
        raise ValueError(f'pools {pools} must be one or more of {tuple(WIDTHS)}, each once')
    return pools


def pooled_features(backbone: MaskedViT, images: Tensor, pools: Sequence[str]) -> dict[str, Tensor]:
    """Features (B, D) per pool, float32, after the backbone's final norm.

    ``cls`` is the class token, as in the linear probes of MAE and MoCo v3 and in DINO's k-NN;
    ``mean`` averages the normalised patch tokens. CoMAD's abstract gives the class token no
    target, hence both. The other two are those of DINO's and iBOT's linear evaluation: ``cls_mean``
    (2 D) is both side by side, ``cls4`` (4 D) the class tokens of the last four blocks, each
    through the final norm.
    """
    last = 4 if 'cls4' in pools else 1
    if backbone.depth < last:
        raise ValueError(f'pool cls4 needs 4 blocks, the backbone has {backbone.depth}')
    layers = list(range(backbone.depth - last, backbone.depth))
    raw = backbone.tokens(images, layers=layers)
    tokens = backbone.norm(raw[-1]).float()
    pooled = {'cls': tokens[:, 0], 'mean': tokens[:, 1:].mean(1)}
    pooled['cls_mean'] = torch.cat([pooled['cls'], pooled['mean']], dim=1)
    if 'cls4' in pools:
        earlier = [backbone.norm(x[:, 0]).float() for x in raw[:-1]]
        pooled['cls4'] = torch.cat([*earlier, pooled['cls']], dim=1)
    return {pool: pooled[pool] for pool in pools}


@MODELS.register_module()
class FrozenFeatures(BaseModel):
    """A frozen backbone with its preprocessor: all that a k-NN evaluation needs of a model.

    Args:
        backbone: Config of a `MaskedViT`.
        pools: Which features to read, see `pooled_features`.
        data_preprocessor: Config of the `ImageDataPreprocessor`.
    """

    def __init__(
        self,
        backbone: dict[str, Any],
        pools: Sequence[str] = POOLS,
        data_preprocessor: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(data_preprocessor)
        self.pools = check_pools(pools)
        self.backbone: MaskedViT = MODELS.build(backbone)
        self.backbone.requires_grad_(False)
        self.backbone.eval()

    def train(self, mode: bool = True) -> 'FrozenFeatures':
        """Switch the heads of a subclass; the backbone stays in eval mode."""
        super().train(mode)
        self.backbone.eval()
        return self

    @torch.no_grad()
    def features(self, images: Tensor) -> dict[str, Tensor]:
        """Features (B, D) per pool of normalised images (B, 3, H, W), without a graph."""
        return pooled_features(self.backbone, images, self.pools)

    def forward(
        self, inputs: Tensor, labels: Tensor | None = None, mode: str = 'tensor'
    ) -> dict[str, Tensor]:
        """Features per pool; nothing is trained here, so the only mode is ``tensor``."""
        if mode != 'tensor':
            raise ValueError(f'{type(self).__name__} has no mode {mode!r}: it has no head')
        return self.features(inputs)
