"""The mIoU counted in one histogram against mmseg's own metric and against plain counting."""

import pytest
import torch
from mmengine.evaluator import Evaluator

from comad.evaluation import class_areas

CLASSES = 5
IGNORED = 255


def scene(seed: int, size: tuple[int, int] = (37, 50)) -> tuple[torch.Tensor, torch.Tensor]:
    """Prediction and truth; class 4 is never true, class 3 never predicted, some is not scored."""
    generator = torch.Generator().manual_seed(seed)
    truth = torch.randint(0, CLASSES - 1, size, generator=generator)
    predicted = torch.where(
        torch.rand(size, generator=generator) < 0.5,
        truth,
        torch.randint(0, CLASSES, size, generator=generator),
    )
    predicted[predicted == 3] = 0
    truth[torch.rand(size, generator=generator) < 0.2] = IGNORED
    return predicted, truth


def test_areas_are_those_of_plain_counting():
    predicted, truth = scene(0)
    pairs = [(p, t) for p, t in zip(predicted.flatten(), truth.flatten(), strict=True) if t < 255]
    for c in range(CLASSES):
        found, there = {i for i, (p, _) in enumerate(pairs) if p == c}, set()
        there = {i for i, (_, t) in enumerate(pairs) if t == c}
        expected = [len(found & there), len(found | there), len(found), len(there)]
        assert [float(area[c]) for area in class_areas(predicted, truth, CLASSES, 255)] == expected


@pytest.mark.parametrize('case', ['usual', 'nothing scored', 'foreign classes', 'nothing ignored'])
def test_areas_are_mmsegs(case):
    from mmseg.evaluation.metrics import IoUMetric

    predicted, truth = scene(1)
    if case == 'nothing scored':
        truth[:] = IGNORED
    if case == 'foreign classes':  # beyond the classes, and yet not the one to ignore
        truth[3:9], predicted[6:12] = CLASSES + 2, CLASSES + 300
    if case == 'nothing ignored':
        truth[truth == IGNORED] = 0
    ours = class_areas(predicted, truth, CLASSES, IGNORED)
    stock = IoUMetric.intersect_and_union(predicted, truth, CLASSES, IGNORED)
    for mine, theirs in zip(ours, stock, strict=True):
        assert mine.dtype == theirs.dtype
        assert torch.equal(mine, theirs)


def test_negative_classes_are_refused():
    predicted, truth = scene(2)
    truth[0, 0] = -1
    with pytest.raises(ValueError, match='class -1 in a prediction or label map'):
        class_areas(predicted, truth, CLASSES, IGNORED)


def sample(seed: int, size: tuple[int, int]) -> dict[str, dict[str, torch.Tensor]]:
    """A scene as the metrics take it."""
    predicted, truth = scene(seed, size)
    return dict(pred_sem_seg=dict(data=predicted[None]), gt_sem_seg=dict(data=truth[None]))


def test_nothing_is_kept_per_image():
    """4 MB each could not be used again on a CPU; the last image may be the sampler's padding."""
    evaluator = Evaluator(dict(type='PairIoUMetric', iou_metrics=['mIoU']))
    evaluator.dataset_meta = dict(classes=tuple('abcde'))
    for batch in ((0, 1), (2,), (3, 4, 5)):
        evaluator.process([sample(seed, (40, 30)) for seed in batch])
        assert len(evaluator.metrics[0].results) == 1
    evaluator.evaluate(6)
    with pytest.raises(ValueError, match=r'delivered \[2\] results for a dataset of 3'):
        evaluator.process([sample(seed, (40, 30)) for seed in (0, 1)])
        evaluator.evaluate(3)


def test_the_metric_is_mmsegs(monkeypatch):
    from mmseg.evaluation.metrics import IoUMetric

    monkeypatch.setattr('mmseg.evaluation.metrics.iou_metric.print_log', lambda *a, **k: None)
    results = []
    for kind in ('PairIoUMetric', 'mmseg.IoUMetric'):
        evaluator = Evaluator(dict(type=kind, iou_metrics=['mIoU', 'mDice', 'mFscore']))
        assert isinstance(evaluator.metrics[0], IoUMetric)
        evaluator.dataset_meta = dict(classes=tuple('abcde'))
        for images in (3, 1, 2):  # evaluations that follow each other begin anew
            for seed in range(images):
                evaluator.process([sample(seed, (40 + seed, 30))])
            results.append(evaluator.evaluate(images))
    assert results[:3] == results[3:]
    assert {'aAcc', 'mIoU', 'mAcc', 'mDice', 'mFscore'} <= results[0].keys()


def test_classes_are_kept_in_percent_and_make_the_mean(monkeypatch):
    monkeypatch.setattr('mmseg.evaluation.metrics.iou_metric.print_log', lambda *a, **k: None)
    evaluator = Evaluator(dict(type='PairIoUMetric', iou_metrics=['mIoU']))
    evaluator.dataset_meta = dict(classes=tuple('abcdef'))  # f is nowhere
    predicted, truth = scene(0)
    sample = dict(pred_sem_seg=dict(data=predicted[None]), gt_sem_seg=dict(data=truth[None]))
    evaluator.process([sample])
    found = evaluator.evaluate(1)
    ious = evaluator.metrics[0].per_class['IoU']
    scored = truth != IGNORED
    right = ((predicted == 0) & (truth == 0)).sum()
    union = (((predicted == 0) & scored) | (truth == 0)).sum()
    assert ious['a'] == pytest.approx(100 * float(right / union), abs=0.01)
    assert ious['d'] == 0 and ious['f'] is None
    known = [value for value in ious.values() if value is not None]
    assert sum(known) / len(known) == pytest.approx(float(found['mIoU']), abs=0.01)
