"""Who may import whom: the contract in pyproject.toml, kept by import-linter."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
LINT = (
    'import sys; from importlinter.cli import lint_imports; sys.exit(lint_imports(no_cache=True))'
)


def lint(folder):
    command = [sys.executable, '-c', LINT]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=300)


def test_arrows_point_down():
    done = lint(ROOT)
    assert done.returncode == 0, done.stdout
    assert '1 kept, 0 broken' in done.stdout


def test_an_arrow_upward_is_found(tmp_path):
    (tmp_path / 'pyproject.toml').write_text((ROOT / 'pyproject.toml').read_text())
    for package in ROOT.glob('comad/*/__init__.py'):
        copy = tmp_path / package.relative_to(ROOT)
        copy.parent.mkdir(parents=True)
        copy.touch()
    for name in ('comad', 'backbones'):
        (tmp_path / name).mkdir(exist_ok=True)
        (tmp_path / name / '__init__.py').touch()
    assert lint(tmp_path).returncode == 0
    (tmp_path / 'comad/runs/record.py').write_text('import comad.leaderboard\n')
    done = lint(tmp_path)
    assert done.returncode == 1 and 'comad.runs is not allowed to import comad.leaderboard' in (
        ' '.join(done.stdout.split())
    )
