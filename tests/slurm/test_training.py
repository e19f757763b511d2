"""A training of two processes on two nodes, stopped by Slurm and gone on with: the same bits."""

import sys
from pathlib import Path

import pytest
import torch

from backbones.checkpoints import read_checkpoint
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


def test_two_nodes_stopped_and_queued_again_end_with_the_same_weights(real, tmp_path):
    write_config(tmp_path, iters=STEPS).rename(tmp_path / 'config.py')
    slow = tmp_path / 'slow'
    slow.touch()
    with open(tmp_path / 'config.py', 'a') as config:
        config.write(f'custom_hooks = [dict(type="mmengine.SlowSteps", path={str(slow)!r})]\n')
    real.settings |= {'GPUS': '2', 'GPUS_PER_NODE': '1', 'SBATCH_ARGS': '--gres=none'}
    job = real.submit('both', '--work-dir', str(tmp_path / 'run'))
    log = tmp_path / f'slurm-{job}.out'
    step = f'[  5/{STEPS}]'
    real.cluster.wait_for(lambda: log.exists() and step in log.read_text(), HANGS)
    real.cluster.say('scancel', '--batch', '--signal=USR1', job)
    slow.unlink()
    real.release(job)
    real.cluster.wait_for(lambda: real.cluster.job(job)['JobState'] == 'COMPLETED', HANGS)
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
