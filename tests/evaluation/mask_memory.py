"""Megabytes that the metric of boxes and masks needs for more images on a GPU: FOLDER/growth.json.

A GPU's results are copied to the host. Here ``Tensor.cpu`` copies too, but for what the metric has
copied by itself already.
"""

import contextlib
import json
import sys
from pathlib import Path

import torch
from mmengine.evaluator import Evaluator

import comad.engine.register  # noqa: F401
from comad.benchmark import timing
from comad.benchmark.suite.evaluation import draw_detections

CPU = torch.device('cpu')
FIRST, MORE = 4, 16  # images

if __name__ == '__main__':
    folder = Path(sys.argv[1])
    torch.zeros(31 * 2**18)  # freed at once: from now on glibc keeps what is as large
    samples, truth = draw_detections(2)
    path = folder / 'instances.json'
    path.write_text(json.dumps(truth))
    with contextlib.redirect_stdout(sys.stderr):
        evaluator = Evaluator(dict(type='ColumnCocoMetric', ann_file=str(path), metric=['segm']))
    evaluator.dataset_meta = dict(classes=tuple(x['name'] for x in truth['categories']))
    host = evaluator.metrics[0].host

    def copied(tensor: torch.Tensor) -> torch.Tensor:
        return tensor if tensor.data_ptr() == host.memory.data_ptr() else tensor.clone()

    torch.Tensor.cpu, torch.Tensor.is_cpu = copied, False
    for number in range(FIRST + MORE):
        if number == FIRST:
            Path('/proc/self/clear_refs').write_text('5')  # the peak begins anew
            before = timing.peak_memory_gib(CPU)
        evaluator.process([samples[number % 2]])
    grown = 1024 * (timing.peak_memory_gib(CPU) - before)
    (folder / 'growth.json').write_text(json.dumps(grown))
