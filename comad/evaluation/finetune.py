"""`ImageClassifier`: a backbone fine-tuned end to end with timm's mixup and losses."""

from collections.abc import Mapping
from contextlib import nullcontext
from typing import Any

import torch
from mmengine.model import BaseModel
from mmengine.registry import MODELS
from timm.data import Mixup
from timm.loss import LabelSmoothingCrossEntropy, SoftTargetCrossEntropy
from torch import Tensor, nn

from backbones.contract import BlockNetwork, check_offers
from comad.evaluation.features import check_pools
from comad.evaluation.metrics import sample_predictions


@MODELS.register_module()
class ImageClassifier(BaseModel):
    """Classifier with MAE's fine-tuning head (arXiv:2111.06377, A.1).

    ``pool='mean'`` averages the patch tokens before the final norm and gives the result a new
    norm of its own (MAE's ``fc_norm``); ``pool='cls'`` reads the class token after the final norm
    (iBOT). Parameters that the choice cannot reach are frozen, since DistributedDataParallel
    stops on trainable tensors without a gradient. Stochastic depth belongs to the backbone.

    Args:
        backbone: Config of a `BlockNetwork`, or of another one with pooled features.
        num_classes: Classes of the dataset.
        pool: ``mean`` or ``cls``.
        mixup: Arguments of `timm.data.Mixup` (``mixup_alpha``, ``cutmix_alpha``, ``prob``,
            ``switch_prob``, ``mode``); it is applied after normalisation and needs even batches.
            None for plain labels.
        label_smoothing: Smoothing of the targets, with or without mixup.
        head_std: Standard deviation of the linear layer's truncated normal initialisation.
        data_preprocessor: Config of the `ImageDataPreprocessor`.
    """

    def __init__(
        self,
        backbone: dict[str, Any],
        num_classes: int = 1000,
        pool: str = 'mean',
        mixup: Mapping[str, Any] | None = None,
        label_smoothing: float = 0.0,
        head_std: float = 2e-5,
        data_preprocessor: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(data_preprocessor)
        if not 0 <= label_smoothing < 1:
            raise ValueError(f'label_smoothing {label_smoothing} must lie in [0, 1)')
        (self.pool,) = check_pools((pool,))
        self.backbone: BlockNetwork = MODELS.build(backbone)
        check_offers(self.backbone, 'tokens', f'backbone {type(self.backbone).__name__}')
        width = self.backbone.embed_dim
        # Networks without blocks give pooled features, normalised in their own way.
        self.of_blocks = isinstance(self.backbone, BlockNetwork)
        new_norm = pool == 'mean' and self.of_blocks
        self.fc_norm = nn.LayerNorm(width, eps=1e-6) if new_norm else nn.Identity()
        self.head = nn.Linear(width, num_classes)
        nn.init.trunc_normal_(self.head.weight, std=head_std)
        nn.init.zeros_(self.head.bias)
        if mixup is None:
            self.mixup, self.loss = None, LabelSmoothingCrossEntropy(label_smoothing)
        else:
            self.mixup = Mixup(**mixup, label_smoothing=label_smoothing, num_classes=num_classes)
            self.loss = SoftTargetCrossEntropy()
        if new_norm:
            self.backbone.norm.requires_grad_(False)
        if getattr(self.backbone, 'mask_token', None) is not None:
            self.backbone.mask_token.requires_grad_(False)

    def forward(
        self, inputs: Tensor, labels: Tensor | None = None, mode: str = 'tensor'
    ) -> dict[str, Tensor] | list[dict[str, Any]] | Tensor:
        """Class scores of normalised images (B, 3, H, W).

        Returns:
            ``loss``: ``loss_class``; ``predict``: see `sample_predictions`; ``tensor``: (B, C).
        """
        if mode == 'loss':
            if self.mixup is not None:
                inputs, labels = self.mixup(inputs, labels)
            return {'loss_class': self.loss(self._scores(inputs), labels)}
        scores = self._scores(inputs)
        return sample_predictions({self.pool: scores}, labels) if mode == 'predict' else scores

    @property
    def parts_to_compile(self) -> list[nn.Module]:
        """The blocks of the backbone; none of a network without blocks."""
        return list(self.backbone.blocks) if self.of_blocks else []

    def compile_parts(self, **options: Any) -> None:
        """Compile the blocks in place; ``options`` of torch.compile."""
        for block in self.parts_to_compile:
            block.compile(dynamic=False, **options)

    def _scores(self, images: Tensor) -> Tensor:
        # Evaluation has modes and last batches of its own, not worth compiling for.
        with nullcontext() if self.training else torch.compiler.set_stance('force_eager'):
            return self._plain_scores(images)

    def _plain_scores(self, images: Tensor) -> Tensor:
        if not self.of_blocks:
            return self.head(self.backbone.features(images)[self.pool])
        raw = self.backbone.run(self.backbone.embed(images))
        pooled = (
            raw[:, self.backbone.num_prefix :].mean(1)
            if self.pool == 'mean'
            else self.backbone.norm(raw)[:, 0]
        )
        return self.head(self.fc_norm(pooled))
