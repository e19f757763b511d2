"""Another batch than the recipe's: accumulated, scaled, or pointed out."""

import pytest
import torch
from mmengine.config import Config
from mmengine.optim import OptimWrapper
from torch import nn

from comad.engine.options import ConfigError, RunOptions
from comad.engine.run_config import load_run_config
from comad.engine.runner import BenchmarkRunner
from comad.tasks.task import TASKS

UPERNET = 'seg_configs/upernet_comad_tiny.py'
FINETUNE = 'cls_configs/finetune_comad_tiny.py'


def load(path, **options):
    return load_run_config(RunOptions(path, **options), check=False)


def test_iterations_are_multiplied_and_the_protocol_stays():
    plain, accumulated = load(UPERNET), load(UPERNET, accumulate=4)
    assert accumulated.train_cfg.max_iters == 640_000
    assert accumulated.train_cfg.val_interval == 64_000
    assert accumulated.default_hooks.checkpoint.interval == 64_000
    assert [entry.get('end') for entry in accumulated.param_scheduler] == [6000, None]
    assert accumulated.param_scheduler[1].begin == 0  # the poly falls from the first step
    task = TASKS['upernet']
    assert task.read_protocol(accumulated._cfg_dict.to_dict(), 2) == task.read_protocol(
        plain._cfg_dict.to_dict(), 8
    )


def test_milestones_are_multiplied():
    cfg = load('det_configs/mask_rcnn_comad_tiny.py', accumulate=2)
    assert cfg.param_scheduler[1].milestones == [327_778, 355_092]


def test_epochs_stay():
    cfg = load(FINETUNE, accumulate=4)
    assert cfg.train_cfg.max_epochs == 300 and cfg.param_scheduler[0].end == 5
    assert cfg.optim_wrapper.accumulative_counts == 4


@pytest.mark.parametrize(
    ('path', 'steps', 'message'),
    [
        (FINETUNE, 0, 'accumulate 0: expected a number of batches'),
        ('cls_configs/knn_comad_tiny.py', 2, 'trains nothing'),
    ],
)
def test_impossible_accumulation_is_one_line(path, steps, message):
    with pytest.raises(ConfigError, match=message):
        load(path, accumulate=steps)


class FakeRunner:
    """What `scale_lr` reads of a runner."""

    def __init__(self, per_process, processes, accumulated, sample=False):
        self.cfg = Config(
            dict(
                train_dataloader=dict(batch_size=per_process),
                optim_wrapper=dict(accumulative_counts=accumulated),
                run=dict(track='sample' if sample else 'full'),
            )
        )
        self.world_size = processes
        self.lines = []
        self.logger = self
        self.info = self.warning = self.lines.append


@pytest.mark.parametrize(
    ('per_process', 'processes', 'accumulated', 'enable', 'rate', 'said'),
    [
        (128, 8, 1, False, 0.1, ''),
        (128, 2, 4, False, 0.1, ''),
        (128, 2, 1, False, 0.1, 'batch 256 (128 x 2 processes x 1 accumulated)'),
        (128, 2, 1, True, 0.025, 'learning rate x 0.25'),
        (128, 2, 8, True, 0.2, 'learning rate x 2'),
    ],
)
def test_scaling_and_warning(per_process, processes, accumulated, enable, rate, said):
    runner = FakeRunner(per_process, processes, accumulated)
    wrapper = OptimWrapper(torch.optim.SGD(nn.Linear(1, 1).parameters(), lr=0.1))
    settings = dict(base_batch_size=1024, enable=enable)
    BenchmarkRunner.scale_lr(runner, wrapper, settings)
    assert wrapper.optimizer.param_groups[0]['lr'] == pytest.approx(rate)
    assert bool(runner.lines) == bool(said) and said in ''.join(runner.lines)


def test_the_sample_has_batches_of_its_own():
    runner = FakeRunner(32, 1, 1, sample=True)
    wrapper = OptimWrapper(torch.optim.SGD(nn.Linear(1, 1).parameters(), lr=0.1))
    BenchmarkRunner.scale_lr(runner, wrapper, dict(base_batch_size=1024))
    assert runner.lines == []
