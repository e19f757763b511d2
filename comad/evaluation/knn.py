"""Weighted k-nearest-neighbour classification on frozen features, without any training."""

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from mmengine.dist import all_gather, get_world_size
from mmengine.evaluator import Evaluator
from mmengine.registry import LOOPS
from mmengine.runner import Runner
from torch import Tensor
from torch.distributed import all_to_all_single
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
    nearest, labels = nearest_rows(queries, bank, bank_labels, max(neighbours), block)
    return votes_of(nearest, labels, num_classes, neighbours, temperature)


def nearest_rows(
    queries: Tensor, bank: Tensor, bank_labels: Tensor, most: int, block: int
) -> tuple[Tensor, Tensor]:
    """Similarities (B, most), falling, and classes of the bank's rows nearest to each query."""
    nearest = queries.new_empty(len(queries), 0)
    labels = bank_labels.new_empty(len(queries), 0)
    for start in range(0, len(bank), block):
        part = bank[start : start + block]
        similarity, index = (queries @ part.T).topk(min(most, len(part)))
        nearest = torch.cat([nearest, similarity], dim=1)
        labels = torch.cat([labels, bank_labels[start + index]], dim=1)
        nearest, labels = _best(nearest, labels, most)
    return nearest, labels


def nearest_of_all(
    queries: Tensor, share: Tensor, share_labels: Tensor, most: int, block: int
) -> tuple[Tensor, Tensor]:
    """`nearest_rows` of a bank of which each process holds a share; a collective.

    Every process compares the queries of all with its share, and gives each its candidates back.

    Args:
        queries: Unit vectors (B, D) of this process, as many as every other one has.
        share: Unit vectors (n, D) of this process's part of the bank.
        share_labels: Classes (n,) of it.
        most: Neighbours, not above the rows of the whole bank.
        block: See `weighted_votes`.
    """
    world = get_world_size()
    if world == 1:
        return nearest_rows(queries, share, share_labels, most, block)
    everyone = torch.cat(all_gather(queries))
    # As many similarities at a time as with the queries of one process.
    found = nearest_rows(everyone, share, share_labels, most, -(-block // world))
    lacking = most - found[0].shape[1]  # in a share that small; never among the nearest of all
    merged = []
    for own, filler in zip(found, (-torch.inf, 0), strict=True):
        own = F.pad(own, (0, lacking), value=filler).contiguous()
        all_to_all_single(given := torch.empty_like(own), own)
        merged.append(given.unflatten(0, (world, -1)).transpose(0, 1).flatten(1))
    return _best(*merged, most)


def votes_of(
    nearest: Tensor,
    labels: Tensor,
    num_classes: int,
    neighbours: Sequence[int],
    temperature: float,
) -> dict[int, Tensor]:
    """Votes (B, C) for every k from similarities and classes of neighbours (B, max k)."""
    weights = (nearest / temperature).exp()
    votes = nearest.new_zeros(len(nearest), num_classes)
    return {k: votes.scatter_add(1, labels[:, :k], weights[:, :k]) for k in neighbours}


def _best(similarity: Tensor, labels: Tensor, most: int) -> tuple[Tensor, Tensor]:
    best, order = similarity.topk(min(most, similarity.shape[1]))
    return best, labels.gather(1, order)


@LOOPS.register_module()
class KNNTestLoop(FeatureBankLoop):
    """Test or validation loop that classifies by DINO's weighted k-NN (arXiv:2104.14294).

    Of several processes each keeps the features of its share of the bank.

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

    shared_bank = True

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
            queries = F.normalize(queries, dim=1)
            most = max(self.neighbours)
            found = nearest_of_all(queries, self.bank[pool], self.labels, most, self.block)
            votes = votes_of(*found, self.num_classes, self.neighbours, self.temperature)
            for k in self.neighbours:
                scores[pool if k == self.report_k else f'{pool}_k{k}'] = votes[k]
        return scores
