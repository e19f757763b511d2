"""`FeatureBankLoop`: classifies images from features of labelled ones; no model is trained."""

from abc import ABCMeta, abstractmethod
from collections.abc import Sequence
from typing import Any

import torch
from mmengine.dist import all_reduce
from mmengine.evaluator import Evaluator
from mmengine.logging import MMLogger
from mmengine.model import is_model_wrapper
from mmengine.runner import BaseLoop, Runner
from torch import Tensor
from torch.utils.data import DataLoader

from comad.evaluation.features import POOLS, check_pools, pooled_features, stack_rows
from comad.evaluation.metrics import gather_in_order, own_rows, sample_predictions

PHASES = ('test', 'val')
# Beside the pools in the bank.
LABELS = 'labels'


class FeatureBankLoop(BaseLoop, metaclass=ABCMeta):
    """Test or validation loop: features of a labelled bank first, then of every image.

    It reads ``model.backbone`` and ``model.data_preprocessor``, so it also validates a running
    pretraining. Of several processes each has the whole bank, or its share with ``shared_bank``.

    Args:
        runner: The runner that builds this loop.
        dataloader: Images to classify.
        evaluator: Config of the metrics, or an evaluator.
        bank_dataloader: Labelled images, usually of the training split without augmentation.
        pools: See `pooled_features`.
        phase: ``test`` or ``val``: which of the runner's hooks are called.

    Raises:
        ValueError: an unknown pool or phase.
    """

    shared_bank = False

    def __init__(
        self,
        runner: Runner,
        dataloader: DataLoader | dict[str, Any],
        evaluator: Evaluator | dict[str, Any] | list[dict[str, Any]],
        bank_dataloader: DataLoader | dict[str, Any],
        pools: Sequence[str] = POOLS,
        phase: str = 'test',
    ) -> None:
        super().__init__(runner, dataloader)
        if phase not in PHASES:
            raise ValueError(f'phase {phase!r} must be one of {PHASES}')
        self.bank_dataloader = runner.build_dataloader(bank_dataloader, seed=runner.seed)
        if not isinstance(evaluator, Evaluator):
            evaluator = runner.build_evaluator(evaluator)
        self.evaluator = evaluator
        self.evaluator.dataset_meta = getattr(self.dataloader.dataset, 'metainfo', None)
        self.pools = check_pools(pools)
        self.phase = phase

    @abstractmethod
    def fit(self, bank: dict[str, Tensor], labels: Tensor, num_classes: int) -> None:
        """Take in the bank's features (N, D) per pool and classes (N,); both may be overwritten."""

    @abstractmethod
    def scores(self, features: dict[str, Tensor]) -> dict[str, Tensor]:
        """Class scores (B, C) per classifier name from features (B, D) per pool."""

    @torch.no_grad()
    def run(self) -> dict[str, float]:
        """Build the bank, classify every image and return the metrics.

        Raises:
            RuntimeError: the backbone names a student that was never loaded.
        """
        self._call(f'before_{self.phase}')
        self._call(f'before_{self.phase}_epoch')
        self.runner.model.eval()
        self._fit_bank()
        for index, batch in enumerate(self.dataloader):
            self._call(f'before_{self.phase}_iter', batch_idx=index, data_batch=batch)
            features, labels = self._features(batch)
            outputs = sample_predictions(self.scores(features), labels)
            self.evaluator.process(data_samples=outputs, data_batch=batch)
            self._call(
                f'after_{self.phase}_iter', batch_idx=index, data_batch=batch, outputs=outputs
            )
        metrics = self.evaluator.evaluate(len(self.dataloader.dataset))
        self._call(f'after_{self.phase}_epoch', metrics=metrics)
        self._call(f'after_{self.phase}')
        return metrics

    def _fit_bank(self) -> None:
        """Fit to the bank, of which nothing stays behind but what `fit` keeps."""
        bank, labels = self._bank()
        self.fit(bank, labels, self._num_classes(labels))

    def _call(self, hook: str, **kwargs: Any) -> None:
        self.runner.call_hook(hook, **kwargs)

    def _features(self, batch: dict[str, Any]) -> tuple[dict[str, Tensor], Tensor]:
        """Features (B, D) per pool and labels (B,) of a batch from a dataloader."""
        model = self.runner.model
        model = model.module if is_model_wrapper(model) else model
        backbone = model.backbone
        if getattr(backbone, 'init_cfg', None) is not None and not backbone.loaded:
            raise RuntimeError(
                f'backbone init_cfg {dict(backbone.init_cfg)} was never loaded: the evaluation '
                'would score random weights; call model.init_weights() first'
            )
        data = model.data_preprocessor(batch, False)
        return pooled_features(backbone, data['inputs'], self.pools), data['labels']

    def _bank(self) -> tuple[dict[str, Tensor], Tensor]:
        """Features (N, D) per pool and labels (N,) of the bank, or of this process's share."""
        size, share = len(self.bank_dataloader.dataset), len(self.bank_dataloader.sampler)
        batches = (self._features(batch) for batch in self.bank_dataloader)
        bank = stack_rows(({**x, LABELS: labels} for x, labels in batches), share)
        if self.shared_bank:
            own = own_rows(len(bank[LABELS]), size)
            bank = {name: x[:own] for name, x in bank.items()}
        else:
            bank = {name: gather_in_order(x, size) for name, x in bank.items()}
        MMLogger.get_current_instance().info(f'features of {size} labelled images are ready')
        labels = bank.pop(LABELS)
        return bank, labels

    def _num_classes(self, bank_labels: Tensor) -> int:
        """Classes of the dataset, also those that a small bank happens to lack."""
        classes = (self.evaluator.dataset_meta or {}).get('classes', ())
        highest = bank_labels.max()
        all_reduce(highest, 'max')
        return max(len(classes), int(highest) + 1)
