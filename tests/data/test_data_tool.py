import subprocess
import sys
from pathlib import Path

import pytest

from tests.calls import call

TOOL = Path(__file__).parents[2] / 'tools' / 'data.py'


def run(*arguments):
    return subprocess.run([sys.executable, str(TOOL), *arguments], capture_output=True, text=True)


@pytest.mark.parametrize(
    ('arguments', 'parts'),
    [
        (['--help'], ['sample', 'python tools/data.py sample']),
        (['sample', '--help'], ['imagenet/{train,val}', '--root', '--seed', '--force']),
    ],
)
def test_help_teaches(arguments, parts):
    result = run(*arguments)
    assert result.returncode == 0
    assert all(part in result.stdout for part in parts)


def test_a_folder_with_other_files_gives_one_line(tmp_path):
    (tmp_path / 'thesis.tex').touch()
    result = call('data', 'sample', '--root', tmp_path)
    assert result.returncode == 1
    assert result.stderr.splitlines() == [
        f'data sample: {tmp_path} holds files but no manifest.json: it is no sample; '
        'choose another --root'
    ]
    assert [path.name for path in tmp_path.iterdir()] == ['thesis.tex']


@pytest.mark.parametrize('words', [('imagenet', '--root', 'nowhere'), ('nowhere',)])
def test_a_missing_folder_is_not_a_folder_with_problems(words, tmp_path):
    result = call('data', 'check', *words, cwd=tmp_path)
    assert result.returncode == 2
    (line,) = result.stderr.splitlines()
    assert line.startswith('data check: nowhere') and 'no ' in line


def test_a_bad_seed_gives_one_line(tmp_path):
    result = call('data', 'sample', '--root', tmp_path / 'sample', '--seed', '-1')
    assert (result.returncode, result.stderr) == (
        1, 'data sample: seed=-1: expected 0 or more\n',
    )  # fmt: skip
