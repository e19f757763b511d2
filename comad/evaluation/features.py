"""Pooled features of a frozen backbone, the input of the linear probe and of k-NN."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from mmengine.model import BaseModel
from mmengine.registry import MODELS
from torch import Tensor

from backbones.contract import Backbone, BlockNetwork

# Pool -> feature width as a multiple of the backbone's.
WIDTHS = {'cls': 1, 'mean': 1, 'cls_mean': 2, 'cls4': 4}
POOLS = ('cls', 'mean')
VIEWS_OF_CLIPS = 6  # dimensions of a batch


def check_pools(pools: Sequence[str]) -> tuple[str, ...]:
    """The pools as a tuple; ValueError when one is unknown or given twice."""
    pools = tuple(pools)
    if not pools or len(set(pools)) < len(pools) or not set(pools) <= set(WIDTHS):
        raise ValueError(f'pools {pools} must be one or more of {tuple(WIDTHS)}, each once')
    return pools


def pooled_features(backbone: Backbone, images: Tensor, pools: Sequence[str]) -> dict[str, Tensor]:
    """Features (B, D) per pool, float32, after the backbone's final norm.

    ``cls`` is the class token, as in the linear probes of MAE and MoCo v3 and in DINO's k-NN;
    ``mean`` averages the normalised patch tokens. CoMAD's abstract gives the class token no
    target, hence both. The other two are those of DINO's and iBOT's linear evaluation: ``cls_mean``
    (2 D) is both side by side, ``cls4`` (4 D) the class tokens of the last four blocks, each
    through the final norm. Several views of a video, (B, V, 3, T, H, W), give the mean of theirs.
    """
    if images.dim() == VIEWS_OF_CLIPS:
        several = pooled_features(backbone, images.flatten(0, 1), pools)
        return {pool: x.unflatten(0, images.shape[:2]).mean(1) for pool, x in several.items()}
    if 'cls4' in pools:
        pooled = _of_last_blocks(backbone, images, 4)
    else:
        pooled = dict(backbone.features(images))
    if 'cls' in pooled:
        pooled['cls_mean'] = torch.cat([pooled['cls'], pooled['mean']], dim=1)
    missing = [pool for pool in pools if pool not in pooled]
    if missing:
        raise ValueError(
            f'pool {missing[0]}: {type(backbone).__name__} has {", ".join(sorted(pooled))}'
        )
    return {pool: pooled[pool] for pool in pools}


def stack_rows(batches: Iterable[Mapping[str, Tensor]], size: int) -> dict[str, Tensor]:
    """The rows of all batches (B, ...) in one tensor (N, ...) per name.

    Copied, since a class feature is a view: kept as it is, it keeps all tokens of its batch.

    Args:
        batches: At least one, all with the same names.
        size: Rows of all batches, at most.
    """
    rows: dict[str, Tensor] = {}
    seen = 0
    for batch in batches:
        for name, x in batch.items():
            if name not in rows:
                rows[name] = x.new_empty(size, *x.shape[1:])
            rows[name][seen : seen + len(x)] = x
        seen += len(x)
    return {name: x[:seen] for name, x in rows.items()}


def _of_last_blocks(backbone: BlockNetwork, images: Tensor, last: int) -> dict[str, Tensor]:
    """``cls`` and ``mean``, and ``cls<last>`` of so many blocks."""
    if not isinstance(backbone, BlockNetwork) or backbone.depth < last:
        blocks = getattr(backbone, 'depth', 'none')
        raise ValueError(f'pool cls{last} needs {last} blocks, the backbone has {blocks}')
    raw = backbone.tokens(images, layers=list(range(backbone.depth - last, backbone.depth)))
    tokens = backbone.norm(raw[-1]).float()
    earlier = [backbone.norm(x[:, 0]).float() for x in raw[:-1]]
    cls = tokens[:, 0]
    return {'cls': cls, 'mean': tokens[:, 1:].mean(1), f'cls{last}': torch.cat([*earlier, cls], 1)}


@MODELS.register_module()
class FrozenFeatures(BaseModel):
    """A frozen backbone with its preprocessor: all that a k-NN evaluation needs of a model.

    Args:
        backbone: Config of a `Backbone`.
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
        self.backbone: Backbone = MODELS.build(backbone)
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
