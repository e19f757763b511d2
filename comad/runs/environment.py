"""Where a run happened: package versions, machine and the state of the source tree."""

import os
import platform
import subprocess
from importlib import metadata
from importlib.machinery import ExtensionFileLoader, PathFinder
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from comad.runs.place import FILES

# Import name -> distributions that provide it, the maintained forks of OpenMMLab's last.
PACKAGES = {
    'torch': ('torch',),
    'torchvision': ('torchvision',),
    'timm': ('timm',),
    'mmengine': ('mmengine', 'onedl-mmengine'),
    'mmcv': ('mmcv', 'mmcv-lite', 'onedl-mmcv'),
    'mmseg': ('mmsegmentation', 'onedl-mmsegmentation'),
    'mmdet': ('mmdet', 'onedl-mmdetection'),
    'numpy': ('numpy',),
    # Both decode and resize images, each release in its own way.
    'pillow': ('pillow',),
    'opencv': ('opencv-python', 'opencv-python-headless'),
}
# Results and runs are what the code writes; they do not change what it does.
IGNORED_BY_DIRTY = (':(exclude)results', ':(exclude)work_dirs')
# What runs execute or read of the suite, beside Python files anywhere.
CODE = ('backbones', 'comad', 'tools', 'base_configs', ':(glob)*_configs/**', '*.py')
GIT_SECONDS = 20


def collect_environment(
    root: Path = FILES, device: str = 'cpu', world_size: int = 1
) -> dict[str, Any]:
    """Return versions, machine, process count and git state, without importing torch.

    ``versions`` maps import names to versions; packages that are not installed are left out.
    ``mmcv_operators`` is 'compiled' or 'torchvision' (see `backbones.mmcv_ext`), None without mmcv.
    ``git_commit`` and ``git_dirty`` are None outside of a git checkout; untracked code counts as
    dirty, images or exports that somebody keeps in the checkout, results/ and work_dirs/ do not.
    Device and number of processes are the caller's to know: variables of the environment may be
    another launcher's.
    """
    commit, dirty = git_state(root)
    return {
        'versions': _versions(),
        'mmcv_operators': _mmcv_operators(),
        'python': platform.python_version(),
        'platform': f'{platform.system()} {platform.machine()}',
        'cpu': _cpu(),
        'cpu_cores': os.cpu_count() or 1,
        'threads': int(os.environ.get('OMP_NUM_THREADS') or 0) or None,
        'world_size': world_size,
        'device': device,
        'git_commit': commit,
        'git_dirty': dirty,
    }


def git_state(root: Path) -> tuple[str | None, bool | None]:
    """Return commit and dirty flag of the repository at ``root``, None where unknown.

    A repository further up is another project's: one that happens to hold an environment in which
    the suite is installed, or into which its archive was unpacked.
    """
    if not (root / '.git').exists():
        return None, None
    commit = _git(root, 'rev-parse', '--verify', '--quiet', 'HEAD')
    listed = ('ls-files', '--others', '--exclude-standard', '--', *CODE, *IGNORED_BY_DIRTY)
    changed = ('status', '--porcelain', '--untracked-files=no', '--', '.', *IGNORED_BY_DIRTY)
    found = [_git(root, *arguments) for arguments in (changed, listed)]
    return commit or None, None if None in found else any(found)


def git_complaint(root: Path = FILES) -> str:
    """Return in one line why git does not tell the commit of a checkout; '' if it does."""
    if not (root / '.git').exists():
        return 'no repository of its own'
    try:
        _run_git(root, 'rev-parse', '--verify', 'HEAD')
    except subprocess.CalledProcessError as error:
        return ' '.join(error.stderr.split()) or f'exit code {error.returncode}'
    except (OSError, subprocess.SubprocessError) as error:
        return ' '.join(str(error).split())
    return ''


def _git(root: Path, *arguments: str) -> str | None:
    try:
        return _run_git(root, *arguments)
    except (OSError, subprocess.SubprocessError):
        return None


def _run_git(root: Path, *arguments: str) -> str:
    done = subprocess.run(
        ['git', '-C', str(root), *arguments],
        capture_output=True,
        text=True,
        timeout=GIT_SECONDS,
        check=True,
        # A reader must not take the index lock while somebody works in the checkout.
        env={**os.environ, 'GIT_OPTIONAL_LOCKS': '0'},
    )
    return done.stdout.strip()


def _versions() -> dict[str, str]:
    versions = {'comad-bench': _version('comad-bench') or 'source'}
    for name, distributions in PACKAGES.items():
        for distribution in distributions:
            if version := _version(distribution):
                versions[name] = version
                break
    return versions


def _mmcv_operators() -> str | None:
    if (package := find_spec('mmcv')) is None:
        return None
    operators = PathFinder.find_spec('mmcv._ext', package.submodule_search_locations)
    compiled = operators is not None and isinstance(operators.loader, ExtensionFileLoader)
    return 'compiled' if compiled else 'torchvision'


def _version(distribution: str) -> str | None:
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return None


def _cpu() -> str:
    try:
        for line in Path('/proc/cpuinfo').read_text().splitlines():
            if line.startswith('model name'):
                return line.partition(':')[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()
