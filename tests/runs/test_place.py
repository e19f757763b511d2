"""Where things lie: from any directory, in a checkout and installed."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from comad.runs import place
from comad.runs.environment import git_state


@pytest.fixture
def elsewhere(monkeypatch, tmp_path):
    """The user is in another directory, with no variable set."""
    monkeypatch.delenv(place.HOME)
    monkeypatch.delenv(place.CALLER)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_home_is_the_checkout_unless_named(elsewhere, monkeypatch):
    assert place.home() == place.FILES
    monkeypatch.setenv(place.HOME, str(elsewhere))
    assert place.home() == elsewhere
    monkeypatch.setenv(place.HOME, 'nowhere')
    with pytest.raises(NotADirectoryError, match='COMAD_HOME=nowhere'):
        place.home()


def test_paths_are_taken_from_where_they_are_typed(elsewhere):
    (elsewhere / 'here').mkdir()
    assert place.typed('here') == str(elsewhere / 'here')
    assert place.typed('tools/train.py') == 'tools/train.py'  # only at the home
    assert place.typed('new/run') == str(elsewhere / 'new' / 'run')
    assert place.typed('/absolute') == '/absolute'
    assert place.typed('https://host/file') == 'https://host/file'


def test_configs_are_found_by_path_and_by_name(elsewhere):
    leaf = 'cls_configs/linear_comad_tiny.py'
    assert place.find_config(leaf) == place.find_config('linear_comad_tiny') == leaf
    assert place.find_config('linear_comad_tiny.py') == leaf
    (elsewhere / 'linear_comad_tiny.py').touch()
    assert place.find_config('linear_comad_tiny.py') == str(elsewhere / 'linear_comad_tiny.py')
    assert place.find_config('no_such') == str(elsewhere / 'no_such')


def test_words_name_the_commands_as_they_are_typed(monkeypatch):
    text = 'python tools/train.py X; tools/dist_train.sh X 2; tools/setup.sh --extras export'
    assert place.worded(text) == text
    monkeypatch.setattr(place, 'IS_CHECKOUT', False)
    assert place.worded(text) == (
        "comad-train X; comad-dist-train X 2; pip install 'comad-bench[export]'"
    )


def test_a_foreign_repository_tells_no_commit(tmp_path):
    for command in (['init', '-q'], ['commit', '-q', '--allow-empty', '-m', 'theirs']):
        who = ['-c', 'user.name=a', '-c', 'user.email=a@b']
        subprocess.run(['git', '-C', str(tmp_path), *who, *command], check=True)
    (tmp_path / 'lib' / 'site-packages').mkdir(parents=True)
    assert git_state(tmp_path / 'lib' / 'site-packages') == (None, None)
    assert len(git_state(tmp_path)[0]) == 40


@pytest.mark.parametrize('tool', ['train.py', 'pretrain.sh'])
def test_python_and_shell_tools_agree_from_any_directory(elsewhere, tool):
    """A data folder that is missing is named as seen from the home, whoever asks."""
    environment = {k: v for k, v in os.environ.items() if k not in (place.HOME, place.CALLER)}
    environment |= {'COMAD_VENV': sys.prefix, 'LANG': 'C', 'LC_ALL': 'C'}
    del environment['HOME']
    home = elsewhere / 'a home'
    home.mkdir()
    environment[place.HOME] = 'a home'
    path = str(place.FILES / 'tools' / tool)
    start = ['bash', path, 'mae'] if tool.endswith('.sh') else [sys.executable, path, 'mae_tiny']
    done = subprocess.run(start, cwd=elsewhere, env=environment, capture_output=True, text=True)
    assert done.returncode == 2, done.stderr
    assert 'missing data: data/imagenet' in done.stderr
    assert done.stderr.count('\n') == 1


def test_an_installed_package_works_without_the_checkout(elsewhere):
    """The built package alone: configs inside, the current directory as its home."""
    copy = elsewhere / 'source'
    ignored = shutil.ignore_patterns('.git', '.venv', 'data', 'work_dirs', 'build', '*.egg-info')
    shutil.copytree(place.FILES, copy, ignore=lambda folder, names: (
        ignored(folder, names) if Path(folder) == place.FILES else []
    ))  # fmt: skip
    built = elsewhere / 'built'
    build = [sys.executable, 'setup.py', '-q', 'build', '--build-lib', str(built)]
    subprocess.run(build, cwd=copy, check=True, capture_output=True, timeout=120)
    shutil.rmtree(copy)
    user = elsewhere / 'user'
    user.mkdir()
    environment = {k: v for k, v in os.environ.items() if k not in (place.HOME, place.CALLER)}
    environment['PYTHONPATH'] = str(built)

    def run(module: str, *arguments: str) -> subprocess.CompletedProcess:
        return subprocess.run(
            [sys.executable, '-m', f'comad.commands.{module}', *arguments],
            cwd=user,
            env=environment,
            capture_output=True,
            text=True,
            timeout=120,
        )

    done = run('train', 'linear_comad_tiny', '--print-work-dir')
    assert done.stdout == f'{user}/work_dirs/linear/comad_tiny/seed0\n', done.stderr
    done = run('train', 'pretrain_configs/mae_tiny.py', '--sample')
    assert 'comad-data sample' in done.stderr and 'data/sample/imagenet' in done.stderr
    done = run('show', 'plan', '--track', 'nowhere')
    assert 'nowhere' in done.stderr and 'does not exist; see the' not in done.stderr
    environment['COMAD_HOME'] = 'nowhere'
    done = run('train', 'linear_comad_tiny')
    assert done.stderr == 'error: COMAD_HOME=nowhere is no folder; make it, or name another one\n'
    assert done.returncode == 2
    del environment['COMAD_HOME']
    done = run('leaderboard', '--out', 'tables', '--quiet')
    assert done.returncode == 0, done.stderr
    committed = (place.FILES / 'results/leaderboard_detection.csv').read_bytes()
    assert (user / 'tables' / 'leaderboard_detection.csv').read_bytes() == committed
