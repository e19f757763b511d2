"""Counting of correct predictions, in one process and in several."""

import json

import pytest
import torch
from mmengine.registry import METRICS

from comad.evaluation import Accuracy, gather_in_order, sample_predictions
from comad.evaluation.knn import nearest_rows
from tests.evaluation import two_processes
from tests.evaluation.test_coco import crowded
from tests.evaluation.two_processes import LABELS, SCORES
from tests.programs import run_group


def test_counts_top1_and_top2_per_classifier():
    metric = METRICS.build(dict(type='Accuracy', topk=(1, 2)))
    scores = {'mean': SCORES, 'cls': -SCORES}
    for part in (slice(0, 2), slice(2, 5)):
        batch = {name: s[part] for name, s in scores.items()}
        metric.process(None, sample_predictions(batch, LABELS[part]))
    # With negated scores only the third sample's class is among the best two.
    assert metric.evaluate(5) == {
        'top1_mean': 40.0,
        'top1_cls': 0.0,
        'top2_mean': 80.0,
        'top2_cls': 20.0,
    }


def test_evaluate_starts_afresh():
    metric = Accuracy(topk=(1,))
    for expected in (100.0, 0.0):
        scores = SCORES[:1] if expected else -SCORES[:1]
        metric.process(None, sample_predictions({'cls': scores}, LABELS[:1]))
        assert metric.evaluate(1) == {'top1_cls': expected}


def test_constant_classifier_scores_nothing():
    metric = Accuracy(topk=(1, 3))
    metric.process(None, sample_predictions({'cls': torch.zeros(5, 4)}, LABELS))
    assert metric.evaluate(5) == {'top1_cls': 0.0, 'top3_cls': 0.0}


def test_diverged_scores_and_foreign_labels_are_refused():
    bad = SCORES.clone()
    bad[2, 1] = float('nan')
    with pytest.raises(ValueError, match='diverged'):
        Accuracy(topk=(1,)).process(None, sample_predictions({'cls': bad}, LABELS))
    with pytest.raises(ValueError, match='labels 0 to 4 do not fit 4 classes'):
        Accuracy(topk=(1,)).process(
            None, sample_predictions({'cls': SCORES[:2]}, torch.tensor([0, 4]))
        )
    with pytest.raises(ValueError, match='top-5 of 4 classes'):
        Accuracy().process(None, sample_predictions({'cls': SCORES}, LABELS))


def test_missing_results_are_refused():
    with pytest.raises(ValueError, match='DefaultSampler'):
        gather_in_order(torch.arange(7), 8)
    with pytest.raises(ValueError, match='empty'):
        Accuracy().evaluate(3)


@pytest.fixture(scope='module')
def of_two(tmp_path_factory):
    """What each of two processes says of the evaluations that they share."""
    folder = tmp_path_factory.mktemp('group')
    for rank in range(2):
        (folder / str(rank)).mkdir()
    words = ('tests.evaluation.two_processes', folder)
    run_group(folder / 'log', 2, *words, module=True, cwd=folder)
    # Nothing was exchanged through files.
    left = {path.name for path in folder.iterdir()}
    assert left == {'0', '1', '0.json', '1.json', 'log0', 'log1'}
    return [json.loads((folder / f'{rank}.json').read_text()) for rank in range(2)]


def test_padded_samples_count_once_in_two_processes(of_two):
    for said in of_two:
        assert said['share'] == 3  # five samples padded to six, the first one twice
        assert said['accuracy'] == {'top1_mean': 40.0, 'top2_mean': 80.0}
        assert said['order'] == said['seen'] == [0, 1, 2, 3, 4]


def test_a_bank_in_two_shares_has_the_neighbours_of_the_whole(of_two):
    queries, bank, classes = two_processes.features()
    most = max(two_processes.NEIGHBOURS)
    similarity, labels = nearest_rows(queries, bank, classes, most, 1000)
    for part, said in zip((slice(0, 3), slice(3, 6)), of_two, strict=True):
        near, of_class = (torch.tensor(x) for x in said['nearest'])
        torch.testing.assert_close(near, similarity[part], rtol=0, atol=1e-6)
        assert torch.equal(of_class, labels[part])


def test_areas_of_two_processes_add_up_to_those_of_one(of_two):
    one = two_processes.told(two_processes.iou(range(two_processes.SCENES)), two_processes.SCENES)
    assert 0 < one[0]['mIoU'] < 100
    first, second = (said['iou'] for said in of_two)
    assert first == json.loads(json.dumps(one, default=float)) and second[0] == first[0]


@pytest.mark.parametrize('case', ['all', 'one', 'none'])
def test_detections_are_evaluated_by_class_in_two_processes_to_the_last_bit(of_two, tmp_path, case):
    images = two_processes.DETECTED
    path, found = crowded(tmp_path, images)
    one = two_processes.told(
        two_processes.coco(path, two_processes.cases(found)[case], range(images)), images
    )
    assert bool(one[0]) == (case != 'none')
    assert [said['coco'][case] for said in of_two] == [json.loads(json.dumps(one))] * 2


def test_classes_are_split_by_what_was_detected():
    from comad.evaluation.coco_classes import split_classes

    assert split_classes([5, 0, 3, 3, 1], 2) == [[0, 4, 1], [2, 3]]
    assert split_classes([1], 2) == [[0], []]
