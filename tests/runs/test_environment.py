"""The source tree's state: commit, and dirty by everything but results and runs."""

import subprocess
import sys
from importlib import metadata
from importlib.machinery import EXTENSION_SUFFIXES

import pytest

from comad.runs.environment import collect_environment, git_complaint, git_state


@pytest.fixture
def checkout(tmp_path):
    identity = ['-c', 'user.name=t', '-c', 'user.email=t@example.org']

    def git(*arguments):
        subprocess.run(['git', '-C', tmp_path, *identity, *arguments], check=True)

    git('init', '-q')
    for name in ('code.py', 'results/table.csv'):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text('1')
    git('add', '.')
    git('commit', '-qm', 'one')
    return tmp_path


def test_clean_checkout_ignores_results_and_runs(checkout):
    (checkout / 'results/table.csv').write_text('2')
    (checkout / 'results/new.csv').write_text('2')
    (checkout / 'work_dirs').mkdir()
    (checkout / 'work_dirs/run.log').write_text('x')
    (checkout / 'photos').mkdir()
    (checkout / 'photos/one.jpg').write_text('x')
    (checkout / 'slurm-7.out').write_text('x')
    commit, dirty = git_state(checkout)
    assert len(commit) == 40 and dirty is False


@pytest.mark.parametrize(
    'name', ['code.py', 'untracked.py', 'mine/method.py', 'cls_configs/notes', 'comad/table.csv']
)
def test_changed_or_new_code_is_dirty(checkout, name):
    (checkout / name).parent.mkdir(exist_ok=True)
    (checkout / name).write_text('changed')
    assert git_state(checkout)[1] is True


def test_outside_of_git_nothing_is_claimed(tmp_path, monkeypatch):
    monkeypatch.setenv('GIT_CEILING_DIRECTORIES', str(tmp_path.parent))
    assert git_state(tmp_path) == (None, None)
    assert git_complaint(tmp_path) == 'no repository of its own'


def test_git_says_why_it_does_not_tell_a_commit(checkout, monkeypatch):
    assert git_complaint(checkout) == ''
    with monkeypatch.context() as patch:  # git's own switch for its tests of safe.directory
        patch.setenv('GIT_TEST_ASSUME_DIFFERENT_OWNER', '1')
        assert git_state(checkout) == (None, None)
        assert 'dubious ownership' in git_complaint(checkout)
    monkeypatch.setenv('PATH', str(checkout))
    assert 'No such file or directory' in git_complaint(checkout)


def test_environment_names_versions_and_processes(monkeypatch):
    # Of another launcher's making: how many processes there are, only the process group knows.
    monkeypatch.setenv('WORLD_SIZE', '8')
    assert collect_environment()['world_size'] == 1
    environment = collect_environment(device='a card', world_size=4)
    assert (environment['world_size'], environment['device']) == (4, 'a card')
    assert {'torch', 'mmengine', 'timm'} <= set(environment['versions'])


@pytest.mark.parametrize('distribution', ['mmcv', 'mmcv-lite', 'onedl-mmcv'])
def test_the_version_of_mmcv_whoever_provides_it(monkeypatch, distribution):
    def version(name):
        if name != distribution:
            raise metadata.PackageNotFoundError(name)
        return '2.1.0'

    monkeypatch.setattr(metadata, 'version', version)
    assert collect_environment()['versions'] == {'comad-bench': 'source', 'mmcv': '2.1.0'}


def test_the_kind_of_mmcvs_operators(monkeypatch, tmp_path):
    monkeypatch.setattr(sys, 'path', [str(tmp_path)])
    monkeypatch.delitem(sys.modules, 'mmcv', raising=False)
    assert collect_environment()['mmcv_operators'] is None
    for name, kind in (
        ('__init__.py', 'torchvision'),
        ('_ext.py', 'torchvision'),
        (f'_ext{EXTENSION_SUFFIXES[0]}', 'compiled'),
    ):
        (tmp_path / 'mmcv').mkdir(exist_ok=True)
        (tmp_path / 'mmcv' / name).touch()
        assert collect_environment()['mmcv_operators'] == kind
    assert 'mmcv' not in sys.modules
