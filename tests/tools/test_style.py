"""The house style, as far as ruff can tell; `ruff check --fix . && ruff format .` mends most."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize('command', [('check',), ('format', '--check')])
def test_ruff(command):
    done = subprocess.run(
        [sys.executable, '-m', 'ruff', *command, '--quiet', '--no-cache', '.'],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
