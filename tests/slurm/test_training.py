"""A grid of trainings, one of two processes on two nodes, stopped by Slurm: the same bits."""

import sys
from pathlib import Path

import pytest
import torch

from backbones.checkpoints import read_checkpoint
from comad.sweep import slurm
from comad.sweep.runner import Sweep
from comad.sweep.step import Step
from tests.engine.test_preemption import write_config
from tests.programs import HANGS, run_group
from tests.slurm.conftest import ROOT, Site

pytestmark = [pytest.mark.slurm, pytest.mark.slow]
STEPS = 100


@pytest.fixture
def real(site: Site, tmp_path: Path) -> Site:
    """The launcher of this repository with this Python."""
    python = tmp_path / 'venv' / 'bin' / 'python'
    python.write_text(f'#!/bin/bash\nexec {sys.executable} "$@"\n')
    for name in ('tools', 'comad'):
        (tmp_path / name).rename(tmp_path / f'unused_{name}')
        (tmp_path / name).symlink_to(ROOT / name)
    (tmp_path / 'backbones').symlink_to(ROOT / 'backbones')
    (tmp_path / 'tests').symlink_to(ROOT / 'tests')
    return site


@pytest.fixture
def sweep(real: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Sweep:
    """Two cells, the second of which needs what the first one has trained."""
    real.settings |= {'GPUS_PER_NODE': '1', 'SBATCH_ARGS': '--gres=none'}
    for name, value in (real.cluster.variables | real.settings).items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(slurm, 'FILES', tmp_path)
    write_config(tmp_path, iters=2).rename(tmp_path / 'after.py')
    write_config(tmp_path, iters=STEPS).rename(tmp_path / 'config.py')
    cells = [
        Step(
            name,
            ('python', 'tools/train.py', f'{config}.py', '--work-dir', str(tmp_path / name)),
            (f'{name}/iter_{steps}.pth',),
            needs,
            processes=processes,
            part='knn',
        )
        for name, config, steps, needs, processes in (
            ('run', 'config', STEPS, (), 2),
            ('next', 'after', 2, ('run',), 1),
        )
    ]
    return Sweep('study', cells, tmp_path, 'state', resume=True, gpus=2, adopts=lambda step: True)


def test_a_cell_on_two_nodes_stopped_and_queued_again_has_the_same_weights(real, sweep, tmp_path):
    slow = tmp_path / 'slow'
    slow.touch()
    with open(tmp_path / 'config.py', 'a') as config:
        config.write(f'custom_hooks = [dict(type="mmengine.SlowSteps", path={str(slow)!r})]\n')
    jobs = slurm.submit(sweep, 'both')
    log = tmp_path / sweep.log(sweep.by_name['run'])
    step = f'[  5/{STEPS}]'
    real.cluster.wait_for(lambda: log.exists() and step in log.read_text(), HANGS)
    assert slurm.states_of_jobs(sweep) == {'run': 'running', 'next': 'waiting'}
    real.cluster.say('scancel', '--batch', '--signal=USR1', jobs['run'])
    slow.unlink()
    real.wait_for_requeue(jobs['run'])
    assert real.cluster.job(jobs['next'])['JobState'] == 'PENDING'
    assert slurm.submit(sweep, 'both') == {}  # both are in the queue still
    real.release(jobs['run'])
    real.cluster.wait_for(lambda: set(slurm.states_of_jobs(sweep).values()) == {'done'}, HANGS)
    said = log.read_text()
    assert f'{tmp_path}/run/iter_' in said and 'Traceback' not in said, said
    words = ('tools/train.py', tmp_path / 'config.py', '--work-dir', tmp_path / 'whole')
    run_group(tmp_path / 'log', 2, *words, '--launcher', 'pytorch', cwd=ROOT)
    stopped, never = (
        read_checkpoint(tmp_path / folder / f'iter_{STEPS}.pth')['state_dict']
        for folder in ('run', 'whole')
    )
    assert stopped.keys() == never.keys()
    assert all(torch.equal(value, never[name]) for name, value in stopped.items())
