"""Minutes-long trainings on the embedded sample reach the accuracy that several seeds gave.

One chain as a user would type it, in an empty folder: sample data, an MAE student, and every kind
of transfer. A range is the mean of the seeds in the comment, plus and minus about four standard
deviations or more, so that another machine's rounding stays inside and a broken part does not:
the random student's figure lies outside of it.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from comad.engine.config_keys import REPOSITORY

pytestmark = pytest.mark.slow


def tool(folder, *arguments):
    result = subprocess.run(
        [sys.executable, '-W', 'ignore', *arguments],
        cwd=folder,
        env={**os.environ, 'OMP_NUM_THREADS': '1'},
        capture_output=True,
        text=True,
        timeout=900,
    )
    assert result.returncode == 0, result.stderr[-2000:]


def train(folder, leaf, *options):
    tool(folder, f'{REPOSITORY}/tools/train.py', f'{REPOSITORY}/{leaf}', '--sample', *options)


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp('sample')
    tool(folder, f'{REPOSITORY}/tools/data.py', 'sample')
    train(folder, 'pretrain_configs/mae_tiny.py')
    return folder


RANGES = {}


@pytest.mark.parametrize('kind', RANGES)
def test_accuracy(folder, kind):
    leaf, student, metrics = RANGES[kind]
    train(folder, leaf, '--student', student)
    path = Path(folder, f'results/sample/records/{kind}_{student}_p0_s0.json')
    record = json.loads(path.read_text())
    for name, (low, high) in metrics.items():
        assert low <= record['metrics'][name] <= high, (name, record['metrics'])
