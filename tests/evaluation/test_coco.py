"""Masks encoded by their columns against pycocotools, and the metric against mmdet's own."""

import json

import numpy as np
import pytest
import torch
from mmengine.evaluator import Evaluator

from comad.evaluation import encode_masks
from comad.evaluation.coco import HostMemory
from tests.programs import run

HEIGHT, WIDTH = 60, 80
NAMES = ('cat', 'dog')


def shapes() -> dict[str, torch.Tensor]:
    """Masks that touch every border, and none."""
    empty = torch.zeros(HEIGHT, WIDTH, dtype=torch.bool)
    masks = {name: empty.clone() for name in ('empty', 'left', 'right', 'row', 'corners', 'hole')}
    masks['left'][:, :3] = True
    masks['right'][5:, -4:] = True
    masks['row'][-1] = True
    masks['corners'][0, 0] = masks['corners'][-1, -1] = True
    masks['hole'][10:40, 20:50] = True
    masks['hole'][20:30, 30:40] = False
    noise = torch.rand(HEIGHT, WIDTH, generator=torch.Generator().manual_seed(0)) < 0.5
    return masks | dict(full=~empty, noise=noise)


@pytest.mark.parametrize('name', list(shapes()))
def test_masks_survive_and_equal_pycocotools(name):
    from pycocotools.mask import decode, encode

    mask = shapes()[name]
    (rle,) = encode_masks(mask[None])
    np.testing.assert_array_equal(decode(rle), mask.numpy())
    assert rle == encode(np.asfortranarray(mask.numpy().astype(np.uint8)))


def test_the_host_holds_one_image_at_a_time():
    host = HostMemory()
    masks = torch.stack(list(shapes().values()))
    for some in (masks, masks[:3], masks[2:]):
        copy = host.copy(some)
        assert torch.equal(copy, some) and copy.data_ptr() == host.memory.data_ptr()
        assert host.memory.numel() == masks.numel()
    assert host.copy(masks.byte()).dtype == torch.uint8
    larger = masks.repeat(2, 1, 1)
    assert torch.equal(host.copy(larger), larger)
    assert not host.copy(masks[:0]).numel()


@pytest.mark.slow
def test_more_images_of_a_gpu_need_no_more_memory(tmp_path):
    """Where a fresh copy of every image's masks takes 28 MB more each."""
    run('tests.evaluation.mask_memory', tmp_path, log=tmp_path / 'log', module=True)
    assert json.loads((tmp_path / 'growth.json').read_text()) < 20


def test_many_masks_and_none():
    from pycocotools.mask import decode

    masks = torch.stack(list(shapes().values()))
    np.testing.assert_array_equal(decode(encode_masks(masks)), masks.permute(1, 2, 0).numpy())
    assert encode_masks(masks[:0]) == []


def boxes_and_masks(generator: torch.Generator, count: int) -> tuple[torch.Tensor, torch.Tensor]:
    corner = torch.rand(count, 2, generator=generator) * torch.tensor([WIDTH / 2, HEIGHT / 2])
    side = 6 + torch.rand(count, 2, generator=generator) * 20
    boxes = torch.cat([corner, corner + side], dim=1)
    rows, columns = torch.arange(HEIGHT)[:, None], torch.arange(WIDTH)[None]
    left, top, right, bottom = boxes.T[:, :, None, None]
    return boxes, (columns >= left) & (columns < right) & (rows >= top) & (rows < bottom)


@pytest.fixture
def scenes(tmp_path):
    """Annotation file and predictions of four images, every other one jittered off its truth."""
    generator = torch.Generator().manual_seed(1)
    images, annotations, samples = [], [], []
    for image in range(1, 5):
        images.append(dict(id=image, width=WIDTH, height=HEIGHT, file_name=f'{image}.jpg'))
        boxes, masks = boxes_and_masks(generator, 3)
        for (left, top, right, bottom), rle in zip(
            boxes.tolist(), encode_masks(masks), strict=True
        ):
            number = len(annotations) + 1
            annotations.append(
                dict(
                    id=number,
                    image_id=image,
                    category_id=1 + number % 2,
                    bbox=[left, top, right - left, bottom - top],
                    area=(right - left) * (bottom - top),
                    iscrowd=0,
                    segmentation=dict(rle, counts=rle['counts'].decode()),
                )
            )
        extra, extra_masks = boxes_and_masks(generator, 2)
        found = dict(
            bboxes=torch.cat([boxes + 2 * (image % 2), extra]),
            masks=torch.cat([masks.roll([3 * (image % 2)] * 2, dims=(1, 2)), extra_masks]),
            labels=torch.tensor([a['category_id'] - 1 for a in annotations[-3:]] + [0, 1]),
            scores=torch.rand(5, generator=generator),
        )
        samples.append(dict(img_id=image, ori_shape=(HEIGHT, WIDTH), pred_instances=found))
    path = tmp_path / 'instances.json'
    categories = [dict(id=i + 1, name=name) for i, name in enumerate(NAMES)]
    path.write_text(json.dumps(dict(images=images, annotations=annotations, categories=categories)))
    return str(path), samples


def test_the_metric_is_mmdets(scenes, capsys):
    from mmdet.evaluation.metrics import CocoMetric

    path, samples = scenes
    evaluators, stored, results = [], [], []
    for kind in ('ColumnCocoMetric', 'mmdet.CocoMetric'):
        evaluator = Evaluator(dict(type=kind, ann_file=path, metric=['bbox', 'segm']))
        assert isinstance(evaluator.metrics[0], CocoMetric)
        evaluator.dataset_meta = dict(classes=NAMES)
        evaluators.append(evaluator)
        evaluator.process(samples)
        stored.append([prediction['masks'] for _, prediction in evaluator.metrics[0].results])
        results.append(evaluator.evaluate(len(samples)))
    assert stored[0] == stored[1]
    assert results[0] == results[1]
    classes = evaluators[0].metrics[0].per_class
    for kind in ('bbox', 'segm'):
        assert list(classes[f'{kind}_mAP']) == list(NAMES)
        mean = sum(classes[f'{kind}_mAP'].values()) / len(NAMES)
        assert mean == pytest.approx(100 * results[0][f'coco/{kind}_mAP'], abs=0.11)
    assert classes['bbox_mAP'] != classes['segm_mAP']
    assert 0.1 < results[0]['coco/segm_mAP'] < results[0]['coco/segm_mAP_50'] < 1
    # What hooks and figures see of a prediction is still bitmaps.
    assert all(isinstance(s['pred_instances']['masks'], torch.Tensor) for s in samples)


def crowded(tmp_path, images=40):
    """Annotations with crowds and objects of every size, and six noisy detections an object."""
    from pycocotools.mask import frPyObjects

    generator = np.random.default_rng(5)
    truth, found = [], []
    for image in range(1, images + 1):
        for _ in range(int(generator.integers(1, 8))):
            side = float(np.exp(generator.uniform(np.log(8), np.log(300))))
            left, top = (float(x) for x in generator.uniform(0, 640 - side, 2))
            number, category = len(truth) + 1, int(generator.integers(1, 4))
            box = [left, top, side, side * 0.8]
            truth.append(
                dict(
                    id=number,
                    image_id=image,
                    category_id=category,
                    bbox=box,
                    area=box[2] * box[3] * 0.5,  # of a triangle
                    iscrowd=int(number % 11 == 0),
                    segmentation=[[left, top, left + side, top, left, top + side * 0.8]],
                )
            )
            for noise in generator.uniform(0, 0.4, 6):
                x, y = left + noise * side, top - noise * side
                width, score = side * (1 + noise), float(np.round(generator.uniform(), 2))  # ties
                corners = [[x, y, x + width, y, x, y + side * 0.8]]
                found.append(
                    dict(
                        image_id=image,
                        category_id=category if noise < 0.35 else 1 + category % 3,
                        bbox=[x, y, width, side * 0.8],
                        segmentation=frPyObjects(corners, 640, 640)[0],
                        score=score,
                    )
                )
    sizes = [dict(id=i, width=640, height=640, file_name=f'{i}.jpg') for i in range(1, images + 1)]
    categories = [dict(id=i, name=str(i)) for i in (1, 2, 3)]
    path = tmp_path / 'crowded.json'
    path.write_text(json.dumps(dict(images=sizes, annotations=truth, categories=categories)))
    return path, found


@pytest.mark.parametrize('kind', ['bbox', 'segm'])
@pytest.mark.parametrize('limits', [[1, 10, 100], [100, 300, 1000]])
def test_all_twelve_figures_equal_pycocotools(tmp_path, kind, limits):
    from faster_coco_eval import COCOeval_faster
    from mmdet.datasets.api_wrappers import COCO, COCOeval

    path, found = crowded(tmp_path)
    api = COCO(str(path))
    stats, precisions = [], []
    for evaluate in (COCOeval, COCOeval_faster):
        entries = [dict(entry) for entry in found]
        if kind == 'segm':
            entries = [{k: v for k, v in entry.items() if k != 'bbox'} for entry in entries]
        run = evaluate(api, api.loadRes(entries), kind)
        run.params.maxDets = limits
        run.evaluate()
        run.accumulate()
        run.summarize()
        stats.append(np.array(run.stats[:12]))
        precisions.append(run.eval['precision'])
    assert len(stats[0]) == 12 and 0.05 < stats[0][0] < 0.9 and (stats[0] > -1).all()
    # pycocotools adds one spacing to a denominator; nothing else may differ.
    np.testing.assert_allclose(stats[1], stats[0], rtol=0, atol=1e-15)
    np.testing.assert_allclose(precisions[1], precisions[0], rtol=0, atol=1e-15)
