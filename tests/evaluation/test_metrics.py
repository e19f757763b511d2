"""Counting of correct predictions, in one process and in several."""

import json

import pytest
import torch
from mmengine.registry import METRICS

from comad.evaluation import Accuracy, gather_in_order, sample_predictions
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


def test_padded_samples_count_once_in_two_processes(tmp_path):
    words = ('tests.evaluation.two_processes', tmp_path)
    run_group(tmp_path / 'log', 2, *words, module=True, cwd=tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ['0.json', '1.json', 'log0', 'log1']
    for rank in range(2):
        metrics, order, share, seen = json.loads((tmp_path / f'{rank}.json').read_text())
        assert share == 3  # five samples padded to six, the first one twice
        assert metrics == {'top1_mean': 40.0, 'top2_mean': 80.0}
        assert order == seen == [0, 1, 2, 3, 4]
