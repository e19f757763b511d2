"""Linear probe: linear classifiers on the pooled features of a frozen backbone."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from mmengine.registry import MODELS
from torch import Tensor, nn

from comad.evaluation.features import POOLS, WIDTHS, FrozenFeatures
from comad.evaluation.metrics import VARIANT, sample_predictions


@MODELS.register_module()
class LinearProbe(FrozenFeatures):
    """Linear classifiers for several pools in one run, one backbone pass for all.

    The heads share no parameter. With LARS and with momentum SGD, whose steps depend on a tensor's
    own gradients alone, training them together equals training them apart.

    Args:
        backbone: Config of a `Backbone`; only the heads get gradients.
        num_classes: Classes of the dataset.
        pools: See `pooled_features`.
        batch_norm: ``BatchNorm1d(affine=False, eps=1e-6)`` before the linear layer and a truncated
            normal of std 0.01 as its start (MAE, arXiv:2111.06377, A.1); else the linear layer
            alone, normal with std 0.01 (MoCo v3, DINO, iBOT).
        norm_images: Images whose statistics that BatchNorm takes; a larger batch is normalised in
            parts. MAE's 512, its batch per process.
        rates: Several classifiers per pool, each trained at this multiple of the optimizer's
            learning rate. The multiple stands at the classifier's loss, which is the same thing
            for momentum SGD without weight decay and for nothing else. Predictions are named
            ``<pool>@<rate>``; `Accuracy` reports the best, as iBOT's sweep does.
        data_preprocessor: Config of the `ImageDataPreprocessor`.

    Raises:
        ValueError: a rate that is not positive, or given twice; rates together with batch_norm.
    """

    def __init__(
        self,
        backbone: dict[str, Any],
        num_classes: int = 1000,
        pools: Sequence[str] = POOLS,
        batch_norm: bool = True,
        norm_images: int = 512,
        rates: Sequence[float] | None = None,
        data_preprocessor: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(backbone, pools, data_preprocessor)
        if rates is not None and (batch_norm or not rates or len(set(rates)) < len(rates)):
            raise ValueError(f'rates {rates} must differ from each other and need batch_norm=False')
        if rates is not None and min(rates) <= 0:
            raise ValueError(f'rates {rates} must be positive')
        if norm_images < 2:
            raise ValueError(f'norm_images {norm_images}: statistics need two images at least')
        self.rates = None if rates is None else tuple(rates)
        self.num_classes = num_classes
        outputs = num_classes * (1 if rates is None else len(rates))
        # On the device before it is asked for: copying it there in a step would wait for the GPU.
        self.register_buffer('scales', torch.tensor(rates or ()), persistent=False)
        self.heads = nn.ModuleDict(
            {
                pool: _head(
                    self.backbone.embed_dim * WIDTHS[pool], outputs, norm_images * batch_norm
                )
                for pool in self.pools
            }
        )

    def forward(
        self,
        inputs: Tensor | Mapping[str, Tensor],
        labels: Tensor | None = None,
        mode: str = 'tensor',
    ) -> dict[str, Tensor] | list[dict[str, Any]]:
        """Class scores of images (B, 3, H, W), or of their `features` computed earlier.

        Returns:
            ``loss``: ``loss_<pool>``, cross-entropies (with rates: the sum of the scaled ones);
            ``predict``: see `sample_predictions`; ``tensor``: scores (B, C) per pool, with rates
            (B, R, C).
        """
        features = inputs if isinstance(inputs, Mapping) else self.features(inputs)
        scores = {pool: head(features[pool]) for pool, head in self.heads.items()}
        if self.rates is not None:
            scores = {k: s.unflatten(1, (-1, self.num_classes)) for k, s in scores.items()}
        if mode == 'loss':
            return {f'loss_{pool}': self._loss(s, labels) for pool, s in scores.items()}
        if mode != 'predict':
            return scores
        if self.rates is not None:
            scores = {
                f'{pool}{VARIANT}{rate:g}': s[:, i]
                for pool, s in scores.items()
                for i, rate in enumerate(self.rates)
            }
        return sample_predictions(scores, labels)

    def _loss(self, scores: Tensor, labels: Tensor) -> Tensor:
        if self.rates is None:
            return F.cross_entropy(scores, labels)
        repeated = labels[:, None].expand(-1, len(self.rates))
        losses = F.cross_entropy(scores.transpose(1, 2), repeated, reduction='none').mean(0)
        return losses @ self.scales.to(losses.dtype)


class PartwiseBatchNorm(nn.BatchNorm1d):
    """BatchNorm without affine part (eps 1e-6) that normalises a large batch in equal parts.

    Running statistics move once per batch, by its parts' means.

    Args:
        width: Features.
        images: Of a part, at most.
    """

    def __init__(self, width: int, images: int) -> None:
        super().__init__(width, eps=1e-6, affine=False)
        self.images = images

    def forward(self, x: Tensor) -> Tensor:
        """Features (B, D), normalised."""
        if not self.training or len(x) <= self.images:
            return super().forward(x)
        parts = x.tensor_split(math.ceil(len(x) / self.images))
        with torch.no_grad():
            means = torch.stack([part.float().mean(0) for part in parts])
            variances = torch.stack([part.float().var(0) for part in parts])
            self.running_mean.lerp_(means.mean(0), self.momentum)
            self.running_var.lerp_(variances.mean(0), self.momentum)
            self.num_batches_tracked += 1
        return torch.cat(
            [F.batch_norm(part, None, None, training=True, eps=self.eps) for part in parts]
        )


def _head(width: int, outputs: int, norm_images: int) -> nn.Module:
    """A linear layer, behind a BatchNorm over so many images unless they are 0."""
    linear = nn.Linear(width, outputs)
    nn.init.zeros_(linear.bias)
    if not norm_images:
        nn.init.normal_(linear.weight, std=0.01)
        return linear
    nn.init.trunc_normal_(linear.weight, std=0.01)
    return nn.Sequential(PartwiseBatchNorm(width, norm_images), linear)
