"""Who finds mmcv's operators: a compiled mmcv first, any import order, spawned workers.

Fresh processes see copies of the installed mmcv without operators of their own.
"""

import os
import shutil
import subprocess
import sys
import sysconfig
from importlib.machinery import EXTENSION_SUFFIXES
from importlib.util import find_spec
from pathlib import Path

import pytest

from backbones.mmcv_finder import OPERATORS, OperatorFinder, provide_operators

ROOT = Path(__file__).resolve().parents[2]

USE = """
import torch
from mmcv.ops import nms, roi_align, soft_nms
boxes = torch.tensor([[0.0, 0, 10, 10], [1, 1, 10, 10], [20, 20, 30, 30]])
print('kept', nms(boxes, torch.tensor([0.9, 0.8, 0.7]), 0.5)[1].tolist())
maps = torch.arange(16.0).reshape(1, 1, 4, 4).requires_grad_()
pooled = roi_align(maps, torch.tensor([[0.0, 0, 0, 4, 4]]), (1, 1), 1.0, 2, 'avg', True)
pooled.sum().backward()
print('mean', pooled.item(), 'sum of gradient', maps.grad.sum().item())
import mmcv._ext
print('from', mmcv._ext.__file__)
"""
USED = ['kept [0, 2]', 'mean 7.5 sum of gradient 1.0']

WORKERS = """
import torch
from torch.utils.data import DataLoader, Dataset

class Kept(Dataset):
    def __len__(self):
        return 4
    def __getitem__(self, index):
        from mmcv.ops import nms
        return nms(torch.tensor([[0.0, 0, 9, 9], [1, 1, 9, 9]]), torch.rand(2), 0.5)[1]

if __name__ == '__main__':
    loader = DataLoader(Kept(), num_workers=1, multiprocessing_context='spawn')
    print('kept', [batch.numel() for batch in loader])
"""


def copy_mmcv(site):
    installed = Path(find_spec('mmcv').origin).parent
    shutil.copytree(installed, site / 'mmcv', ignore=shutil.ignore_patterns('_ext*'))
    return site


@pytest.fixture
def bare(tmp_path):
    """Site-packages with an mmcv that lacks its operators."""
    return copy_mmcv(tmp_path / 'bare')


@pytest.fixture(scope='module')
def packed(tmp_path_factory):
    """Site-packages with such an mmcv and the distribution of ``ops/``, installed by pip."""
    prefix = tmp_path_factory.mktemp('packed')
    scheme = sysconfig.get_preferred_scheme('prefix')
    site = Path(sysconfig.get_path('purelib', scheme, {'base': prefix, 'platbase': prefix}))
    copy_mmcv(site)
    options = ['--no-index', '--no-deps', '--no-build-isolation', '--prefix', str(prefix)]
    pip = [sys.executable, '-m', 'pip', 'install', '--ignore-installed', *options, './ops']
    done = subprocess.run(pip, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    return site


def run(path, *arguments):
    return subprocess.run(
        [sys.executable, '-W', 'ignore', *arguments],
        env={**os.environ, 'PYTHONPATH': os.pathsep.join(map(str, path))},
        cwd='/',
        capture_output=True,
        text=True,
        timeout=600,
    )


def lines(done):
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout.splitlines()


def test_backbones_bring_the_operators_and_import_no_mmcv_themselves(bare):
    code = "import sys, backbones; print([name for name in sys.modules if name[:4] == 'mmcv'])"
    found = lines(run([bare, ROOT], '-c', f'{code}\nimport mmdet.apis, mmseg.apis\n{USE}'))
    assert found == ['[]', *USED, f'from {OPERATORS}']


def test_without_them_there_are_none(bare):
    done = run([bare], '-c', USE)
    assert done.returncode != 0 and "No module named 'mmcv._ext'" in done.stderr


@pytest.mark.parametrize('first', ['mmdet.apis', 'mmseg.utils'])
def test_the_distribution_serves_any_import_order(packed, first):
    found = lines(run([packed], '-c', f'import {first}\n{USE}'))
    assert found == [*USED, f'from {packed / "mmcv/_ext.py"}']


def test_the_distribution_serves_spawned_workers(packed, tmp_path):
    file = tmp_path / 'workers.py'
    file.write_text(WORKERS)
    assert lines(run([packed], str(file))) == ['kept [1, 1, 1, 1]']


def test_the_distribution_is_the_one_file(packed):
    (listed,) = packed.glob('comad_bench_ops-*.dist-info/RECORD')
    files = [line.split(',')[0] for line in listed.read_text().splitlines()]
    own = [name for name in files if '.dist-info/' not in name and '__pycache__' not in name]
    assert own == ['mmcv/_ext.py']
    assert (packed / own[0]).read_bytes() == OPERATORS.read_bytes()
    assert sorted(path.name for path in (ROOT / 'ops').iterdir()) == ['pyproject.toml', 'setup.py']


PLACES = """
import sys, backbones
from importlib.util import find_spec
from pathlib import Path
import mmcv
for name in ('', '_ext.py', sys.argv[1]):
    (Path(mmcv.__file__).parent / name).touch()
    print(find_spec('mmcv._ext').origin)
"""


def test_whatever_is_installed_wins_and_compiled_before_all(bare):
    compiled = f'_ext{EXTENSION_SUFFIXES[0]}'
    found = lines(run([bare, ROOT], '-c', PLACES, compiled))
    assert found == [str(OPERATORS), str(bare / 'mmcv/_ext.py'), str(bare / 'mmcv' / compiled)]


def test_the_finder_is_asked_last_and_once(monkeypatch):
    monkeypatch.setattr(sys, 'meta_path', [f for f in sys.meta_path if f.__class__ is type])
    others = list(sys.meta_path)
    provide_operators()
    provide_operators()
    assert sys.meta_path[:-1] == others and isinstance(sys.meta_path[-1], OperatorFinder)
    assert OperatorFinder().find_spec('mmcv.ops', None) is None
