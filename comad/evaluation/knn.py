"""Weighted k-nearest-neighbour classification on frozen features, without any training."""

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from mmengine.evaluator import Evaluator
from mmengine.registry import LOOPS
from mmengine.runner import Runner
from torch import Tensor
from torch.utils.data import DataLoader

from comad.evaluation.feature_bank import FeatureBankLoop


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
class KNNTestLoop(FeatureBankLoop):
    """Test or validation loop that classifies by DINO's weighted k-NN (arXiv:2104.14294).

    Classifiers are named ``<pool>`` at ``report_k`` neighbours and ``<pool>_k<k>`` at the others;
    with `Accuracy` this gives ``top1_cls``, ``top1_cls_k10`` ...

    Args:
        runner: See `FeatureBankLoop`, as for all that is not listed here.
        dataloader: Images to classify.
        evaluator: Config of the metrics, or an evaluator.
        bank_dataloader: Labelled images to compare with.
        neighbours: Values of k; DINO's 10, 20, 100 and 200.
        report_k: The k of the reported figure; 20, as DINO recommends, not the best on test.
        temperature: Of the votes.
        block: See `weighted_votes`.
        options: ``pools`` and ``phase``.

    Raises:
        ValueError: k above the number of bank images, ``report_k`` not in ``neighbours``.
    """

    def __init__(
        self,
        runner: Runner,
        dataloader: DataLoader | dict[str, Any],
        evaluator: Evaluator | dict[str, Any] | list[dict[str, Any]],
        bank_dataloader: DataLoader | dict[str, Any],
        neighbours: Sequence[int] = (10, 20, 100, 200),
        report_k: int = 20,
        temperature: float = 0.07,
        block: int = 65536,
        **options: Any,
    ) -> None:
        super().__init__(runner, dataloader, evaluator, bank_dataloader, **options)
        if report_k not in neighbours:
            raise ValueError(f'report_k {report_k} is not one of neighbours {tuple(neighbours)}')
        bank_size = len(self.bank_dataloader.dataset)
        if not 1 <= min(neighbours) <= max(neighbours) <= bank_size:
            raise ValueError(
                f'neighbours {tuple(neighbours)} must lie between 1 and the {bank_size} images of '
                'bank_dataloader'
            )
        self.neighbours = tuple(neighbours)
        self.report_k = report_k
        self.temperature = temperature
        self.block = block

    def fit(self, bank: dict[str, Tensor], labels: Tensor, num_classes: int) -> None:
        """Keep the bank as unit vectors, made in place: it is gigabytes at full scale."""
        self.bank = {pool: F.normalize(f, dim=1, out=f) for pool, f in bank.items()}
        self.labels, self.num_classes = labels, num_classes

    def scores(self, features: dict[str, Tensor]) -> dict[str, Tensor]:
        """Votes (B, C) per pool and k."""
        scores = {}
        for pool, queries in features.items():
            votes = weighted_votes(
                F.normalize(queries, dim=1),
                self.bank[pool],
                self.labels,
                self.num_classes,
                self.neighbours,
                self.temperature,
                self.block,
            )
            for k in self.neighbours:
                scores[pool if k == self.report_k else f'{pool}_k{k}'] = votes[k]
        return scores
