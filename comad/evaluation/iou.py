"""mmseg's `IoUMetric`: the pixels of an image counted once, and added up over all processes."""

from collections.abc import Sequence
from typing import Any

import torch
from mmengine.dist import all_reduce
from mmengine.registry import METRICS
from torch import Tensor

from comad.evaluation.metrics import own_rows, percentages


def class_areas(
    predicted: Tensor, truth: Tensor, num_classes: int, ignore_index: int
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Pixels per class of an image: intersection, union, predicted and true.

    One histogram of (true, predicted) pairs holds all four. mmseg selects the scored pixels, then
    the right ones, and makes three histograms; its results are the same.

    Args:
        predicted: Predicted classes (H, W).
        truth: True classes (H, W).
        num_classes: Number of classes C.
        ignore_index: Class in ``truth`` whose pixels are left out.

    Returns:
        Four float32 tensors (C,) on the CPU, as mmseg adds them up.

    Raises:
        ValueError: a class is negative, which no pair of classes can be counted with.
    """
    predicted, truth = predicted.long(), truth.long()
    lowest, highest = _range(predicted, truth)
    if lowest < 0:
        raise ValueError(f'class {lowest} in a prediction or label map: expected 0 or above')
    side = max(num_classes, highest + 1)
    pairs = (truth * side).add_(predicted).flatten()
    joint = torch.bincount(pairs, minlength=side * side).view(side, side)
    if 0 <= ignore_index < side:
        joint[ignore_index] = 0
    areas = torch.stack([joint.diagonal(), joint.sum(0), joint.sum(1)])[:, :num_classes]
    right, found, there = areas.float().cpu()
    return right, found + there - right, found, there


def _range(*maps: Tensor) -> tuple[int, int]:
    ends = [int(end) for classes in maps for end in classes.aminmax()]
    return min(ends), max(ends)


@METRICS.register_module(name='PairIoUMetric')
def pair_iou_metric(**options: Any) -> Any:
    """mmseg's `IoUMetric` that counts with `class_areas`; all options and results are its own.

    Pixels are added up as whole numbers, on every process and then over all of them, so that the
    figures do not depend on how many there are. mmseg gathers the images' counts on one process
    and adds them up in float32, which is exact below 16.8 million pixels of a class. Nothing is
    kept per image: small tensors that stay part the memory of large ones that go, so that on a CPU
    4 MB per image were not used again.

    After an evaluation ``per_class`` holds the IoU of every class, in percent.
    A function, because comad is importable without mmseg.
    """
    from mmseg.evaluation.metrics import IoUMetric

    class PairIoUMetric(IoUMetric):
        intersect_and_union = staticmethod(class_areas)

        added = 0  # images

        def process(self, data_batch: Any, data_samples: Sequence[dict[str, Any]]) -> None:
            super().process(data_batch, data_samples)
            self._add(self.results[:-1])  # the last may be the sampler's padding
            del self.results[:-1]

        def evaluate(self, size: int) -> dict[str, float]:
            if not self.format_only and self.results:
                count = self.added + len(self.results)
                self._add(self.results[: own_rows(count, size) - self.added])
                all_reduce(self.areas)
                # As mmseg has them: one image that stands for all.
                self.results, self.added = [tuple(self.areas.float())], 0
                size = 1
            return super().evaluate(size)

        def _add(self, images: Sequence[Sequence[Tensor]]) -> None:
            if not self.added:
                self.areas = torch.zeros(4, len(self.dataset_meta['classes']), dtype=torch.long)
            for image in images:
                self.areas += torch.stack(image).long()
            self.added += len(images)

        def compute_metrics(self, results: Sequence[Sequence[Tensor]]) -> dict[str, float]:
            self.per_class = {}
            if results and not self.format_only:
                right, union = (sum(image[i] for image in results) for i in (0, 1))
                shares = (right / union).tolist()  # NaN: neither there nor predicted
                self.per_class['IoU'] = percentages(self.dataset_meta['classes'], shares)
            return super().compute_metrics(results)

    return PairIoUMetric(**options)
