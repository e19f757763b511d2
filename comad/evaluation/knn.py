"""Weighted k-nearest-neighbour classification on frozen features, without any training."""

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from mmengine.evaluator import Evaluator
from mmengine.logging import MMLogger
from mmengine.model import is_model_wrapper
from mmengine.registry import LOOPS
from mmengine.runner import BaseLoop, Runner
from torch import Tensor
from torch.utils.data import DataLoader

from .features import POOLS, check_pools, pooled_features
from .metrics import gather_in_order, sample_predictions

PHASES = ('test', 'val')


def weighted_votes(
    queries: Tensor,
    bank: Tensor,
    bank_labels: Tensor,
    num_classes: int,
    neighbours: Sequence[int],
    temperature: float,
    block: int = 65536,
) -> dict[int, Tensor]:
    """Class votes of the nearest neighbours (arXiv:2104.14294, section 4.1 and its k-NN code).

    A neighbour with cosine similarity s votes for its class with weight exp(s / temperature).

    Args:
        queries: Unit vectors (B, D).
        bank: Unit vectors (N, D).
        bank_labels: Classes (N,) of the bank.
        num_classes: Number of classes C.
        neighbours: Values of k, none above N.
        temperature: 0.07 in DINO.
        block: Bank rows compared at a time; bounds the memory to B x block similarities.

    Returns:
        Votes (B, C) for every k.
    """
    most = max(neighbours)
    nearest = queries.new_empty(len(queries), 0)
    labels = bank_labels.new_empty(len(queries), 0)
    for start in range(0, len(bank), block):
        part = bank[start : start + block]
        similarity, index = (queries @ part.T).topk(min(most, len(part)))
        nearest = torch.cat([nearest, similarity], dim=1)
        labels = torch.cat([labels, bank_labels[start + index]], dim=1)
        nearest, order = nearest.topk(min(most, nearest.shape[1]))
        labels = labels.gather(1, order)
    weights = (nearest / temperature).exp()
    votes = queries.new_zeros(len(queries), num_classes)
    return {k: votes.scatter_add(1, labels[:, :k], weights[:, :k]) for k in neighbours}


@LOOPS.register_module()
class KNNTestLoop(BaseLoop):
    """Test or validation loop that classifies by DINO's weighted k-NN (arXiv:2104.14294).

    It reads ``model.backbone`` and ``model.data_preprocessor``, so it also validates a running
    pretraining. Classifiers are named ``<pool>`` at ``report_k`` neighbours and
    ``<pool>_k<k>`` at the others; with `Accuracy` this gives ``top1_cls``, ``top1_cls_k10`` ...

    Args:
        runner: The runner that builds this loop.
        dataloader: Images to classify.
        evaluator: Config of the metrics, or an evaluator.
        bank_dataloader: Labelled images to compare with, usually the training split without
            augmentation; every process keeps the features of all of them.
        pools: See `pooled_features`.
        neighbours: Values of k; DINO's 10, 20, 100 and 200.
        report_k: The k of the reported figure; 20, as DINO recommends, not the best on test.
        temperature: Of the votes.
        block: See `weighted_votes`.
        phase: ``test`` or ``val``: which of the runner's hooks are called.

    Raises:
        ValueError: k above the number of bank images, ``report_k`` not in ``neighbours``.
    """

    def __init__(
        self,
        runner: Runner,
        dataloader: DataLoader | dict[str, Any],
        evaluator: Evaluator | dict[str, Any] | list[dict[str, Any]],
        bank_dataloader: DataLoader | dict[str, Any],
        pools: Sequence[str] = POOLS,
        neighbours: Sequence[int] = (10, 20, 100, 200),
        report_k: int = 20,
        temperature: float = 0.07,
        block: int = 65536,
        phase: str = 'test',
    ) -> None:
        super().__init__(runner, dataloader)
        if report_k not in neighbours:
            raise ValueError(f'report_k {report_k} is not one of neighbours {tuple(neighbours)}')
        if phase not in PHASES:
            raise ValueError(f'phase {phase!r} must be one of {PHASES}')
        self.bank_dataloader = runner.build_dataloader(bank_dataloader, seed=runner.seed)
        bank_size = len(self.bank_dataloader.dataset)
        if not 1 <= min(neighbours) <= max(neighbours) <= bank_size:
            raise ValueError(
                f'neighbours {tuple(neighbours)} must lie between 1 and the {bank_size} images of '
                'bank_dataloader'
            )
        if not isinstance(evaluator, Evaluator):
            evaluator = runner.build_evaluator(evaluator)
        self.evaluator = evaluator
        self.evaluator.dataset_meta = getattr(self.dataloader.dataset, 'metainfo', None)
        self.pools = check_pools(pools)
        self.neighbours = tuple(neighbours)
        self.report_k = report_k
        self.temperature = temperature
        self.block = block
        self.phase = phase

    @torch.no_grad()
    def run(self) -> dict[str, float]:
        """Build the bank, classify every image and return the metrics.

        Raises:
            RuntimeError: the backbone names a student that was never loaded.
        """
        self._call(f'before_{self.phase}')
        self._call(f'before_{self.phase}_epoch')
        self.runner.model.eval()
        bank, bank_labels = self._bank()
        num_classes = self._num_classes(bank_labels)
        for index, batch in enumerate(self.dataloader):
            self._call(f'before_{self.phase}_iter', batch_idx=index, data_batch=batch)
            features, labels = self._features(batch)
            scores = {}
            for pool in self.pools:
                votes = weighted_votes(
                    features[pool],
                    bank[pool],
                    bank_labels,
                    num_classes,
                    self.neighbours,
                    self.temperature,
                    self.block,
                )
                for k in self.neighbours:
                    scores[pool if k == self.report_k else f'{pool}_k{k}'] = votes[k]
            outputs = sample_predictions(scores, labels)
            self.evaluator.process(data_samples=outputs, data_batch=batch)
            self._call(
                f'after_{self.phase}_iter', batch_idx=index, data_batch=batch, outputs=outputs
            )
        metrics = self.evaluator.evaluate(len(self.dataloader.dataset))
        self._call(f'after_{self.phase}_epoch', metrics=metrics)
        self._call(f'after_{self.phase}')
        return metrics

    def _call(self, hook: str, **kwargs: Any) -> None:
        self.runner.call_hook(hook, **kwargs)

    def _features(self, batch: dict[str, Any]) -> tuple[dict[str, Tensor], Tensor]:
        """Unit features (B, D) per pool and labels (B,) of a batch from a dataloader."""
        model = self.runner.model
        model = model.module if is_model_wrapper(model) else model
        backbone = model.backbone
        if getattr(backbone, 'init_cfg', None) is not None and not backbone.loaded:
            raise RuntimeError(
                f'backbone init_cfg {dict(backbone.init_cfg)} was never loaded: k-NN would score '
                'random weights; call model.init_weights() first'
            )
        data = model.data_preprocessor(batch, False)
        features = pooled_features(backbone, data['inputs'], self.pools)
        return {pool: F.normalize(f, dim=1) for pool, f in features.items()}, data['labels']

    def _bank(self) -> tuple[dict[str, Tensor], Tensor]:
        """Features (N, D) per pool and labels (N,) of the bank, gathered from all processes."""
        features: dict[str, list[Tensor]] = {pool: [] for pool in self.pools}
        labels = []
        for batch in self.bank_dataloader:
            batch_features, batch_labels = self._features(batch)
            labels.append(batch_labels)
            for pool in self.pools:
                features[pool].append(batch_features[pool])
        size = len(self.bank_dataloader.dataset)
        bank = {pool: gather_in_order(torch.cat(f), size) for pool, f in features.items()}
        MMLogger.get_current_instance().info(f'k-NN bank of {size} images is ready')
        return bank, gather_in_order(torch.cat(labels), size)

    def _num_classes(self, bank_labels: Tensor) -> int:
        """Classes of the dataset, also those that a small bank happens to lack."""
        classes = (self.evaluator.dataset_meta or {}).get('classes', ())
        return max(len(classes), int(bank_labels.max()) + 1)
