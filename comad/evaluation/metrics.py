"""Top-k accuracy of one or several classifiers, exact under any number of processes."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from mmengine.dist import all_gather, get_rank, get_world_size
from mmengine.evaluator import BaseMetric
from mmengine.registry import METRICS
from torch import Tensor

# Between a classifier's name and the setting of one of its variants.
VARIANT = '@'


def percentages(names: Sequence[str], shares: Sequence[float]) -> dict[str, float | None]:
    """Return class -> percent with two digits; None for a class without a figure (NaN).

    Args:
        names: Names of the classes.
        shares: Figures between 0 and 1, one per class.
    """
    figures = (None if math.isnan(share) else round(100 * float(share), 2) for share in shares)
    return dict(zip(names, figures, strict=True))


def sample_predictions(scores: Mapping[str, Tensor], labels: Tensor) -> list[dict[str, Any]]:
    """Split a batch into samples as MMEngine's evaluators expect them.

    Args:
        scores: Class scores (B, C) per classifier name.
        labels: True classes (B,).

    Returns:
        One ``dict(label=() tensor, scores={name: (C,)})`` per image.
    """
    return [
        {'label': label, 'scores': {name: s[i] for name, s in scores.items()}}
        for i, label in enumerate(labels)
    ]


def gather_in_order(local: Tensor, size: int) -> Tensor:
    """All processes' rows (size, ...) in dataset order, without the sampler's padding.

    MMEngine's DefaultSampler gives process r the samples r, r + world, r + 2 world ... and
    repeats samples from the front until all processes hold equally many.

    Args:
        local: This process's rows (n, ...), in the order of its sampler.
        size: Length of the dataset.

    Raises:
        ValueError: the processes' rows cannot be the whole dataset with such padding.
    """
    own_rows(len(local), size)
    if get_world_size() == 1:
        return local
    return torch.stack(all_gather(local), dim=1).flatten(0, 1)[:size]


def own_rows(count: int, size: int) -> int:
    """How many of this process's results are none of the sampler's padding, which is at the end.

    Args:
        count: Results of this process, in the order of its sampler.
        size: Length of the dataset.

    Raises:
        ValueError: the processes' results cannot be the whole dataset with such padding.
    """
    world = get_world_size()
    counts = [int(n) for n in all_gather(torch.tensor([count]))]
    if len(set(counts)) > 1 or not size <= sum(counts) < size + world:
        raise ValueError(
            f'processes delivered {counts} results for a dataset of {size}: evaluation loaders '
            "need sampler=dict(type='DefaultSampler', shuffle=False) and drop_last=False"
        )
    return len(range(get_rank(), size, world))


@METRICS.register_module()
class Accuracy(BaseMetric):
    """Top-k accuracy in percent, keys ``top<k>_<classifier>``, for example ``top1_mean``.

    A tie with another class counts against the sample: a constant classifier scores 0. Of the
    variants ``<classifier>@<setting>`` the best at the first k is reported, and its setting as
    ``best_<classifier>``, a number.

    Args:
        topk: Values of k.
    """

    # An empty prefix keeps the keys short and MMEngine's warning about a missing one away.
    default_prefix = ''

    def __init__(self, topk: Sequence[int] = (1, 5)) -> None:
        super().__init__()
        if not topk or min(topk) < 1:
            raise ValueError(f'topk {tuple(topk)} must hold positive numbers')
        self.topk = tuple(topk)
        self.names: tuple[str, ...] = ()

    def process(self, data_batch: Any, data_samples: Sequence[dict[str, Any]]) -> None:
        """Rank the true class among all classes, per classifier.

        Raises:
            ValueError: fewer classes than the largest k, a label outside of the classes, or
                scores that are not finite (a diverged model must not be given an accuracy).
        """
        labels = torch.stack([sample['label'] for sample in data_samples]).long()
        self.names = tuple(data_samples[0]['scores'])
        ranks = []
        for name in self.names:
            scores = torch.stack([sample['scores'][name] for sample in data_samples]).float()
            if not torch.isfinite(scores).all():
                raise ValueError(f'scores of {name!r} are not finite: the model has diverged')
            if max(self.topk) > scores.shape[1]:
                raise ValueError(f'top-{max(self.topk)} of {scores.shape[1]} classes means nothing')
            if not 0 <= int(labels.min()) <= int(labels.max()) < scores.shape[1]:
                raise ValueError(
                    f'labels {int(labels.min())} to {int(labels.max())} do not fit '
                    f'{scores.shape[1]} classes'
                )
            own = scores.gather(1, labels[:, None])
            ranks.append((scores >= own).sum(1) - 1)
        self.results.append(torch.stack(ranks, dim=1))

    def evaluate(self, size: int) -> dict[str, float]:
        """Accuracies over the ``size`` samples of the dataset, the same on every process.

        Overridden because MMEngine's version pickles results into the working directory.
        """
        if not self.results:
            raise ValueError('no image was evaluated: the validation loader is empty')
        ranks = gather_in_order(torch.cat(self.results), size)
        self.results.clear()
        return self.compute_metrics(ranks)

    def compute_metrics(self, results: Tensor) -> dict[str, float]:
        """Accuracies in percent from ranks (samples, classifiers), 0 being the best."""
        hits = {k: (results < k).double().mean(0).mul(100).tolist() for k in self.topk}
        chosen: dict[str, int] = {}
        for i, name in enumerate(self.names):
            classifier = name.partition(VARIANT)[0]
            first = hits[self.topk[0]]
            if classifier not in chosen or first[i] > first[chosen[classifier]]:
                chosen[classifier] = i
        metrics = {f'top{k}_{name}': hits[k][i] for k in self.topk for name, i in chosen.items()}
        settings = {name: self.names[i].partition(VARIANT)[2] for name, i in chosen.items()}
        return metrics | {f'best_{name}': float(s) for name, s in settings.items() if s}
