"""Counting of correct predictions, in one process and in several."""

import json
import os
import socket
from pathlib import Path

import pytest
import torch
import torch.multiprocessing as mp
from mmengine.registry import METRICS

from comad.evaluation import Accuracy, gather_in_order, sample_predictions

# Four classes; the true class is 1st, 2nd, 3rd, 1st, tied for 1st.
SCORES = torch.tensor([[9.0, 1, 2, 3], [1, 9, 2, 3], [5, 4, 1, 3], [0, 0, 0, 1], [2, 2, 0, 0]])
LABELS = torch.tensor([0, 3, 3, 3, 0])


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


def _evaluate_a_share(rank: int, world: int, port: int, folder: str) -> None:
    os.environ.update(
        MASTER_ADDR='127.0.0.1',
        MASTER_PORT=str(port),
        RANK=str(rank),
        WORLD_SIZE=str(world),
        LOCAL_RANK=str(rank),
    )
    torch.set_num_threads(1)
    torch.distributed.init_process_group('gloo')
    from mmengine.dataset import DefaultSampler

    indices = list(DefaultSampler(range(5), shuffle=False))
    metric = Accuracy(topk=(1, 2))
    metric.process(None, sample_predictions({'mean': SCORES[indices]}, LABELS[indices]))
    metrics = metric.evaluate(5)
    order = gather_in_order(torch.tensor(indices), 5)
    Path(folder, f'{rank}.json').write_text(json.dumps([metrics, order.tolist(), len(indices)]))
    torch.distributed.destroy_process_group()


def test_padded_samples_count_once_in_two_processes(tmp_path):
    with socket.socket() as probe:
        probe.bind(('127.0.0.1', 0))
        port = probe.getsockname()[1]
    mp.spawn(_evaluate_a_share, (2, port, str(tmp_path)), nprocs=2)
    for rank in range(2):
        metrics, order, share = json.loads((tmp_path / f'{rank}.json').read_text())
        assert share == 3  # five samples padded to six, the first one twice
        assert metrics == {'top1_mean': 40.0, 'top2_mean': 80.0}
        assert order == [0, 1, 2, 3, 4]
