"""Evaluation in the processes of a group: FOLDER/<rank>.json says what came out."""

import json
import os
import sys
from pathlib import Path

import numpy as np
import torch
import torch.distributed as dist
import torch.nn.functional as F
from mmengine.dataset import DefaultSampler
from mmengine.evaluator import BaseMetric, Evaluator

from comad.engine.runner import BenchmarkRunner
from comad.evaluation import Accuracy, gather_in_order, sample_predictions
from comad.evaluation.knn import nearest_of_all

# Four classes; the true class is 1st, 2nd, 3rd, 1st, tied for 1st.
SCORES = torch.tensor([[9.0, 1, 2, 3], [1, 9, 2, 3], [5, 4, 1, 3], [0, 0, 0, 1], [2, 2, 0, 0]])
LABELS = torch.tensor([0, 3, 3, 3, 0])
BANK, NEIGHBOURS = 45, (1, 10, 45)  # as many neighbours as there are: each share lacks some
SCENES = 5
DETECTED = 7  # images


class Seen(BaseMetric):
    """Which samples have come together, by MMEngine's own way."""

    def process(self, data_batch, data_samples):
        self.results.extend(data_samples)

    def compute_metrics(self, results):
        return {'seen': results}


def share(size: int) -> list[int]:
    """What this process evaluates, the sampler's padding among it."""
    return list(DefaultSampler(range(size), shuffle=False))


def features() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Queries, bank and its classes."""
    generator = torch.Generator().manual_seed(0)
    queries, bank = (torch.randn(n, 8, generator=generator) for n in (6, BANK))
    classes = torch.randint(0, 4, (BANK,), generator=generator)
    return F.normalize(queries, dim=1), F.normalize(bank, dim=1), classes


def iou(indices: list[int]) -> Evaluator:
    """mIoU of scenes, one of which is large."""
    from tests.evaluation.test_iou import scene

    evaluator = Evaluator(dict(type='PairIoUMetric', iou_metrics=['mIoU'], collect_device='gpu'))
    evaluator.dataset_meta = dict(classes=tuple('abcde'))
    for seed in indices:
        predicted, truth = scene(seed, (40 + 300 * (seed == 3), 30))
        evaluator.process(
            [dict(pred_sem_seg=dict(data=predicted[None]), gt_sem_seg=dict(data=truth[None]))]
        )
    return evaluator


def coco(path: Path, found: list[dict], indices: list[int]) -> Evaluator:
    """Boxes and masks of the images of these indices."""
    evaluator = Evaluator(
        dict(type='ColumnCocoMetric', ann_file=str(path), metric=['bbox', 'segm'], classwise=True)
    )
    evaluator.dataset_meta = dict(classes=('1', '2', '3'))
    for image in indices:
        own = [entry for entry in found if entry['image_id'] == image + 1]
        left, top, width, height = np.array([e['bbox'] for e in own]).reshape(-1, 4).T
        boxes = np.stack([left, top, left + width, top + height], axis=1)
        instances = dict(
            bboxes=torch.tensor(boxes),
            scores=torch.tensor([entry['score'] for entry in own]),
            labels=torch.tensor([entry['category_id'] - 1 for entry in own], dtype=torch.long),
            masks=[dict(entry['segmentation']) for entry in own],
        )
        evaluator.process([dict(img_id=image + 1, ori_shape=(640, 640), pred_instances=instances)])
    return evaluator


def cases(found: list[dict]) -> dict[str, list[dict]]:
    """Detections of all classes, of one alone, which leaves a process without any, and of none."""
    return dict(all=found, one=[e for e in found if e['category_id'] == 2], none=[])


def told(evaluator: Evaluator, size: int) -> list:
    """Figures, and those per class, which the first process writes into a file."""
    return [evaluator.evaluate(size), getattr(evaluator.metrics[0], 'per_class', None)]


if __name__ == '__main__':
    from tests.evaluation.test_coco import crowded

    dist.init_process_group('gloo')
    indices = share(5)
    metric = Accuracy(topk=(1, 2))
    metric.process(None, sample_predictions({'mean': SCORES[indices]}, LABELS[indices]))
    metrics = metric.evaluate(5)
    order = gather_in_order(torch.tensor(indices), 5).tolist()
    seen = Seen()
    BenchmarkRunner.build_evaluator(object.__new__(BenchmarkRunner), Evaluator([seen]))
    seen.process(None, indices)
    queries, bank, classes = features()
    own = list(range(BANK))[dist.get_rank() :: 2]
    asked = queries.view(2, 3, -1)[dist.get_rank()]
    similarity, labels = nearest_of_all(asked, bank[own], classes[own], max(NEIGHBOURS), 16)
    path, found = crowded(Path(sys.argv[1], str(dist.get_rank())), DETECTED)
    said = dict(
        accuracy=metrics,
        order=order,
        share=len(indices),
        seen=seen.evaluate(5)['seen'],
        nearest=[similarity.tolist(), labels.tolist()],
        iou=told(iou(share(SCENES)), SCENES),
        coco={
            name: told(coco(path, some, share(DETECTED)), DETECTED)
            for name, some in cases(found).items()
        },
    )
    Path(sys.argv[1], f'{dist.get_rank()}.json').write_text(json.dumps(said, default=float))
    dist.destroy_process_group()
    os._exit(0)
