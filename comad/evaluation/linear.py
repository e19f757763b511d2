"""Linear probe: one linear classifier per pooled feature of a frozen backbone."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch.nn.functional as F
from mmengine.registry import MODELS
from torch import Tensor, nn

from .features import POOLS, FrozenFeatures
from .metrics import sample_predictions


@MODELS.register_module()
class LinearProbe(FrozenFeatures):
    """MAE's linear probe (arXiv:2111.06377, A.1), for several pools in one run.

    Each pool has its own head, ``BatchNorm1d(affine=False, eps=1e-6)`` and a linear layer
    (truncated normal, std 0.01). The heads share one forward pass and no parameter; with LARS,
    whose step sizes are per tensor, training them together equals training them apart.

    Args:
        backbone: Config of a `MaskedViT`; only the heads get gradients.
        num_classes: Classes of the dataset.
        pools: See `pooled_features`.
        data_preprocessor: Config of the `ImageDataPreprocessor`.
    """

    def __init__(
        self,
        backbone: dict[str, Any],
        num_classes: int = 1000,
        pools: Sequence[str] = POOLS,
        data_preprocessor: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(backbone, pools, data_preprocessor)
        width = self.backbone.embed_dim
        self.heads = nn.ModuleDict({pool: _head(width, num_classes) for pool in self.pools})

    def forward(
        self,
        inputs: Tensor | Mapping[str, Tensor],
        labels: Tensor | None = None,
        mode: str = 'tensor',
    ) -> dict[str, Tensor] | list[dict[str, Any]]:
        """Class scores of images (B, 3, H, W), or of their `features` computed earlier.

        Returns:
            ``loss``: ``loss_<pool>``, cross-entropies; ``predict``: see `sample_predictions`;
            ``tensor``: scores (B, C) per pool.
        """
        features = inputs if isinstance(inputs, Mapping) else self.features(inputs)
        scores = {pool: head(features[pool]) for pool, head in self.heads.items()}
        if mode == 'loss':
            return {f'loss_{pool}': F.cross_entropy(s, labels) for pool, s in scores.items()}
        return sample_predictions(scores, labels) if mode == 'predict' else scores


def _head(width: int, num_classes: int) -> nn.Sequential:
    linear = nn.Linear(width, num_classes)
    nn.init.trunc_normal_(linear.weight, std=0.01)
    nn.init.zeros_(linear.bias)
    return nn.Sequential(nn.BatchNorm1d(width, eps=1e-6, affine=False), linear)
