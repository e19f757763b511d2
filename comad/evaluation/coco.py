"""mmdet's `CocoMetric`, faster: masks encoded where they are, figures by faster-coco-eval."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from mmengine.dist import get_world_size
from mmengine.registry import METRICS
from torch import Tensor

from comad.data.coco import annotations_type
from comad.evaluation.metrics import own_rows, percentages

SUFFIX = '_precision'  # of mmdet's results per class


class HostMemory:
    """Memory of the host that masks of a GPU are copied into, image after image.

    The copy of an image's masks, 31 MB of 100 at 480 x 640, would otherwise lie between results
    that are kept, where glibc does not use it again: 28 MB more per image, in mmdet's own metric
    too. It is pinned, which makes the copy several times as fast.
    """

    def __init__(self) -> None:
        self.memory = torch.empty(0)

    def copy(self, masks: Tensor) -> Tensor:
        """The same values on the host, until the next call."""
        size, kind = masks.numel(), masks.dtype
        if self.memory.numel() < size or self.memory.dtype != kind:
            self.memory = torch.empty(size, dtype=kind, pin_memory=masks.is_cuda)
        return self.memory[:size].view(masks.shape).copy_(masks.detach())


def encode_masks(masks: Tensor) -> list[dict[str, Any]]:
    """COCO's compressed run lengths of binary masks (n, H, W).

    The run lengths go down the columns, so pycocotools first needs every mask transposed as a
    whole. Only the columns between the first and the last pixel of an object are transposed here,
    which is little of most images; the results are the same.
    """
    from pycocotools.mask import frPyObjects

    height, width = masks.shape[1:]
    bitmaps = masks.detach().cpu().numpy().astype(bool, copy=False)
    runs = [np.diff(_changes(bitmap), prepend=0, append=height * width) for bitmap in bitmaps]
    rows = [{'counts': counts.tolist(), 'size': [height, width]} for counts in runs]
    return frPyObjects(rows, height, width) if rows else []


def _changes(mask: np.ndarray) -> np.ndarray:
    """Where the pixels of a mask (H, W), read down the columns, begin to differ; 0 comes first."""
    height = len(mask)
    columns = np.flatnonzero(mask.any(axis=0))
    if not len(columns):
        return columns
    first, last = columns[0], columns[-1]
    # Background before and after, so that an object at either end changes something too.
    strip = np.zeros((last + 1 - first) * height + 2, dtype=bool)
    strip[1:-1] = mask[:, first : last + 1].T.ravel()
    changes = np.flatnonzero(strip[1:] != strip[:-1]) + first * height
    # The end of the image is no change.
    return changes[changes < mask.size]


@METRICS.register_module(name='ColumnCocoMetric')
def column_coco_metric(**options: Any) -> Any:
    """mmdet's `CocoMetric`, encoded by `encode_masks` and evaluated by faster-coco-eval.

    All options and results are its own; the twelve figures of COCO agree to 1e-15. Annotations are
    read as the data sets read them, by `comad.data.coco`; ``own`` is the data set's. Boxes and
    masks of several processes are evaluated by class: none of them ever has all detections.

    After an evaluation ``per_class`` holds the AP of every class, in percent, by box and by mask.
    A function, because comad is importable without mmdet.
    """
    from faster_coco_eval import COCOeval_faster
    from mmdet.evaluation.metrics import CocoMetric, coco_metric

    from comad.evaluation.coco_classes import ClassesEval, of_own_classes

    class ColumnCocoMetric(CocoMetric):
        def __init__(
            self,
            ann_file: str | None = None,
            own: Mapping[str, Any] | None = None,
            **options: Any,
        ) -> None:
            super().__init__(**options)
            self.labels: Sequence[int] | None = None  # of this process, where it is one of several
            self.host = HostMemory()
            if ann_file is not None:
                masks = 'segm' in self.metrics
                self._coco_api = annotations_type()(ann_file, masks=masks, own=own)

        def process(self, data_batch: dict, data_samples: Sequence[dict]) -> None:
            super().process(data_batch, [_encoded(sample, self.host) for sample in data_samples])

        def evaluate(self, size: int) -> dict[str, float]:
            whole = self.format_only or self.outfile_prefix or self._coco_api is None
            if get_world_size() == 1 or whole or not {'bbox', 'segm'}.issuperset(self.metrics):
                return super().evaluate(size)
            own = self.results[: own_rows(len(self.results), size)]
            self.results.clear()
            self.labels, results = of_own_classes(own, size, len(self.dataset_meta['classes']))
            found = self.compute_metrics(results)
            return {f'{self.prefix}/{key}': value for key, value in found.items()}

        def compute_metrics(self, results: list) -> dict[str, float]:
            # mmdet names a class's box and mask AP alike, so the kinds are evaluated one by one.
            self.per_class, found = {}, {}
            asked, kinds = self.classwise, self.metrics
            self.classwise = True
            # mmdet looks pycocotools' class up here.
            slow, coco_metric.COCOeval = coco_metric.COCOeval, self._evaluator
            try:
                for kind in kinds:
                    self.metrics = [kind]
                    found |= self._split(kind, super().compute_metrics(results), asked)
            finally:
                self.classwise, self.metrics = asked, kinds
                coco_metric.COCOeval = slow
            return found

        def _evaluator(self, *arguments: Any) -> COCOeval_faster:
            if self.labels is None:
                return COCOeval_faster(*arguments)
            return ClassesEval([self.cat_ids[label] for label in self.labels], *arguments)

        def _split(self, kind: str, found: dict[str, float], keep: bool) -> dict[str, float]:
            names = self.dataset_meta['classes']
            if shares := [found[n + SUFFIX] for n in names if n + SUFFIX in found]:
                self.per_class[f'{kind}_mAP'] = percentages(names, shares)
            own = {name + SUFFIX for name in names}
            return {key: value for key, value in found.items() if keep or key not in own}

    return ColumnCocoMetric(**options)


def _encoded(sample: Mapping[str, Any], host: HostMemory) -> dict[str, Any]:
    """The data sample with encoded masks; the given one, which hooks still see, keeps its own."""
    instances = dict(sample['pred_instances'])
    if isinstance(masks := instances.get('masks'), Tensor):
        instances['masks'] = encode_masks(masks if masks.is_cpu else host.copy(masks))
    return {**sample, 'pred_instances': instances}
