"""Evaluations on generated results: what remains once the networks have seen the images."""

import contextlib
import io
import json
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from comad.benchmark import timing

if TYPE_CHECKING:
    from comad.benchmark.suite.parts import Case

OURS, STOCK = 'step', 'reference'
# ImageNet's, ADE20K's and COCO's sizes; k-NN's bank is a tenth of ImageNet.
BANK, WIDTH, CLASSES, NEIGHBOURS = 128_117, 192, 1000, (10, 20, 100, 200)
MAP, MAP_CLASSES, IGNORED = (512, 683), 150, 255
PICTURE, OBJECTS, CATEGORIES = (480, 640), 100, 80


def evaluation(case: 'Case') -> None:
    """k-NN's comparisons, and mIoU and COCO's figures against mmseg's and mmdet's own."""
    case.keep('knn', neighbours(case))
    case.keep('miou', areas(case))
    case.keep('coco', detections(case))


def _measured(case: 'Case', batch: int, work: dict[str, Callable[[], object]]) -> dict[str, Any]:
    seconds = timing.interleave(work, case.device, 3, until=case.until - 0.3 * case.left)
    return {'batch': batch, 'precision': 'float32', 'seconds_per_step': seconds}


def neighbours(case: 'Case') -> dict[str, Any]:
    """Votes of a batch of queries; nobody's own way of it is a library's."""
    from comad.evaluation import weighted_votes

    batch, size = (512, BANK) if case.gpu else (128, BANK // (100 if case.sample else 1))
    generator = torch.Generator().manual_seed(0)
    draws = (torch.randn(rows, WIDTH, generator=generator) for rows in (batch, size))
    queries, bank = (torch.nn.functional.normalize(x, dim=1).to(case.device) for x in draws)
    classes = torch.randint(0, CLASSES, (size,), generator=generator).to(case.device)

    def ours() -> object:
        return weighted_votes(queries, bank, classes, CLASSES, NEIGHBOURS, 0.07)

    return _measured(case, batch, {OURS: ours})


def areas(case: 'Case') -> dict[str, Any]:
    """Pixels per class of one image."""
    from mmseg.evaluation.metrics import IoUMetric

    from comad.evaluation import class_areas

    found, truth = (x.to(case.device) for x in draw_maps(0))
    pair = (found, truth, MAP_CLASSES, IGNORED)
    work = {OURS: lambda: class_areas(*pair), STOCK: lambda: IoUMetric.intersect_and_union(*pair)}
    return _measured(case, 1, work)


def draw_maps(seed: int) -> tuple[Tensor, Tensor]:
    """Predicted and true classes of an image, in blocks as they are in images; a third is wrong."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.randint(0, MAP_CLASSES, (MAP[0] // 32, MAP[1] // 32 + 1), generator=generator)
    truth = coarse.repeat_interleave(32, 0).repeat_interleave(32, 1)[:, : MAP[1]]
    wrong = torch.rand(truth.shape, generator=generator) < 1 / 3
    return torch.where(wrong, truth.roll(7, 1), truth), truth


def detections(case: 'Case') -> dict[str, Any]:
    """Boxes and masks of images with a hundred detections each: encoded, then evaluated."""
    from mmengine.evaluator import Evaluator

    images = 4 if case.sample else 16
    samples, truth = draw_detections(images)
    with tempfile.TemporaryDirectory(prefix='comad-benchmark-') as folder:
        path = Path(folder) / 'instances.json'
        path.write_text(json.dumps(truth))
        names = tuple(category['name'] for category in truth['categories'])

        def way(kind: str) -> Callable[[], object]:
            evaluator = Evaluator(dict(type=kind, ann_file=str(path), metric=['bbox', 'segm']))
            evaluator.dataset_meta = dict(classes=names)

            def work() -> object:
                evaluator.process(samples)
                with contextlib.redirect_stdout(io.StringIO()):
                    return evaluator.evaluate(images)

            return work

        with contextlib.redirect_stdout(io.StringIO()):
            work = {OURS: way('ColumnCocoMetric'), STOCK: way('mmdet.CocoMetric')}
        first, second = (call() for call in work.values())
        if first != second:
            raise ValueError(f"the figures differ from mmdet's: {first}, {second}")
        return _measured(case, images, work)


def draw_detections(images: int) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Samples as mmdet's metrics take them, and the contents of an annotation file.

    Objects are ellipses of all sizes; each is detected several times, shifted and resized.
    """
    from comad.evaluation import encode_masks

    generator = torch.Generator().manual_seed(0)
    height, width = PICTURE

    def ellipses(boxes: Tensor) -> Tensor:
        left, top, right, bottom = boxes.T[:, :, None, None]
        rows, columns = torch.arange(height)[:, None], torch.arange(width)[None]
        across = (2 * columns - left - right) / (right - left)
        return across.square() + ((2 * rows - top - bottom) / (bottom - top)).square() < 1

    samples, entries = [], []
    for image in range(1, images + 1):
        sides = 12 * 20 ** torch.rand(7, 2, generator=generator)
        corners = torch.rand(7, 2, generator=generator) * (torch.tensor([width, height]) - sides)
        objects = torch.cat([corners, corners + sides], dim=1)
        labels = (CATEGORIES * torch.rand(7, generator=generator) ** 3).long()
        for box, label, mask in zip(
            objects.tolist(), labels.tolist(), encode_masks(ellipses(objects)), strict=True
        ):
            size = (box[2] - box[0], box[3] - box[1])
            entry = dict(id=len(entries) + 1, image_id=image, category_id=label + 1, iscrowd=0)
            entry |= dict(bbox=[*box[:2], *size], area=0.785 * size[0] * size[1])
            entry['segmentation'] = {**mask, 'counts': mask['counts'].decode()}
            entries.append(entry)
        of = torch.arange(OBJECTS) % len(objects)
        shifts = 0.15 * torch.randn(OBJECTS, 4, generator=generator) * sides[of].repeat(1, 2)
        boxes = objects[of] + shifts
        boxes[:, 2:] = torch.maximum(boxes[:, 2:], boxes[:, :2] + 4)
        scores = torch.rand(OBJECTS, generator=generator)
        found = dict(bboxes=boxes, labels=labels[of], scores=scores, masks=ellipses(boxes))
        samples.append(dict(img_id=image, ori_shape=PICTURE, pred_instances=found))
    return samples, dict(
        images=[dict(id=i + 1, width=width, height=height, file_name='') for i in range(images)],
        annotations=entries,
        categories=[dict(id=i + 1, name=f'class {i}') for i in range(CATEGORIES)],
    )
