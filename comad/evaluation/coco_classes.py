"""COCO's figures over several processes: each evaluates some of the classes, over all images.

A class's figures depend on its own boxes and masks alone, so that they, and the means over all
classes, are those of one process to the last bit.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from faster_coco_eval import COCOeval_faster
from mmengine.dist import all_gather_object, all_reduce, get_rank, get_world_size
from torch.distributed import gather_object

# Axis of the classes in what faster-coco-eval accumulates.
CLASS_AXIS = {'precision': 2, 'recall': 1}
Results = list[tuple[dict[str, Any], dict[str, Any]]]


class ClassesEval(COCOeval_faster):
    """Evaluates some categories and takes the figures of the others from their processes.

    Args:
        own: Ids of this process's categories; every category of ``params`` is some process's.
        arguments: See faster-coco-eval.
    """

    def __init__(self, own: Sequence[int], *arguments: Any) -> None:
        super().__init__(*arguments)
        self.own = sorted(own)

    def evaluate(self) -> None:
        """Compare this process's categories with the truth."""
        asked, self.params.catIds = self.params.catIds, self.own
        self.params.maxDets = sorted(self.params.maxDets)
        if self.own:
            super().evaluate()
        self.params.catIds = asked

    def accumulate(self) -> None:
        """Precision and recall of all categories, by their ids; a collective."""
        super().accumulate()
        kept = {key: self.eval[key] for key in CLASS_AXIS} if self.own else {}
        parts = all_gather_object((self.own, kept))
        for key, axis in CLASS_AXIS.items():
            columns = {
                category: np.take(values[key], [at], axis)
                for own, values in parts
                for at, category in enumerate(own)
            }
            self.eval[key] = np.concatenate([columns[i] for i in sorted(columns)], axis)


def split_classes(counts: Sequence[int], processes: int) -> list[list[int]]:
    """Labels per process, so that each has about as many detections: most first, to who has least.

    Args:
        counts: Detections per label.
        processes: How many there are.
    """
    shares: list[list[int]] = [[] for _ in range(processes)]
    loads = [0] * processes
    for label in sorted(range(len(counts)), key=lambda label: -counts[label]):
        least = loads.index(min(loads))
        shares[least].append(label)
        loads[least] += counts[label]
    return shares


def of_own_classes(own: Results, size: int, classes: int) -> tuple[list[int], Results]:
    """This process's labels, and all images' results with detections of these; a collective.

    Args:
        own: Results of this process's images, without padding.
        size: Images of the dataset.
        classes: Of the dataset.
    """
    world, rank = get_world_size(), get_rank()
    labels = [torch.from_numpy(result['labels']).long() for _, result in own]
    counts = torch.bincount(torch.cat([torch.zeros(0).long(), *labels]), minlength=classes)
    all_reduce(counts)
    shares = split_classes(counts.tolist(), world)
    parts: list[Any] = [None] * world
    for target, share in enumerate(shares):
        wanted = share
        if not counts[share].sum() and counts.any():
            # pycocotools takes no empty list; what is of other classes is left alone.
            wanted = [*share, int(torch.where(counts > 0, counts, counts.max() + 1).argmin())]
        sent = [(image, _of_labels(result, wanted)) for image, result in own]
        gather_object(sent, parts if rank == target else None, dst=target)
    return shares[rank], [parts[i % world][i // world] for i in range(size)]


def _of_labels(result: Mapping[str, Any], labels: Sequence[int]) -> dict[str, Any]:
    rows = np.flatnonzero(np.isin(result['labels'], labels))
    taken = {key: value for key, value in result.items() if key != 'img_id'}
    for key, value in taken.items():
        taken[key] = [value[i] for i in rows] if isinstance(value, list) else value[rows]
    return {**result, **taken}
