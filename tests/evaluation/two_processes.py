"""Evaluation of five samples in the processes of a group: FOLDER/<rank>.json says what came out."""

import json
import os
import sys
from pathlib import Path

import torch
import torch.distributed as dist
from mmengine.dataset import DefaultSampler
from mmengine.evaluator import BaseMetric, Evaluator

from comad.engine.runner import BenchmarkRunner
from comad.evaluation import Accuracy, gather_in_order, sample_predictions

# Four classes; the true class is 1st, 2nd, 3rd, 1st, tied for 1st.
SCORES = torch.tensor([[9.0, 1, 2, 3], [1, 9, 2, 3], [5, 4, 1, 3], [0, 0, 0, 1], [2, 2, 0, 0]])
LABELS = torch.tensor([0, 3, 3, 3, 0])


class Seen(BaseMetric):
    """Which samples have come together, by MMEngine's own way."""

    def process(self, data_batch, data_samples):
        self.results.extend(data_samples)

    def compute_metrics(self, results):
        return {'seen': results}


if __name__ == '__main__':
    dist.init_process_group('gloo')
    indices = list(DefaultSampler(range(5), shuffle=False))
    metric = Accuracy(topk=(1, 2))
    metric.process(None, sample_predictions({'mean': SCORES[indices]}, LABELS[indices]))
    metrics = metric.evaluate(5)
    order = gather_in_order(torch.tensor(indices), 5).tolist()
    seen = Seen()
    BenchmarkRunner.build_evaluator(object.__new__(BenchmarkRunner), Evaluator([seen]))
    seen.process(None, indices)
    told = [metrics, order, len(indices), seen.evaluate(5)['seen']]
    Path(sys.argv[1], f'{dist.get_rank()}.json').write_text(json.dumps(told))
    dist.destroy_process_group()
    os._exit(0)
