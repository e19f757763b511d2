"""The short version of the chaos test."""

import subprocess
import sys

import pytest


@pytest.mark.slow
@pytest.mark.parametrize('workers', [0, 2])
def test_three_kills(workers):
    command = [sys.executable, '-W', 'ignore', '-m', 'tests.chaos', '--kills', '3']
    command += ['--seed', '1', '--workers', str(workers)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stdout + done.stderr
    assert 'chaos: 3 kills' in done.stdout and 'bit-equal, no checkpoint lost' in done.stdout
