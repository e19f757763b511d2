"""What tools/setup.sh asks Python: requirements, pins, installed versions, proofs that things run.

Runs under the environment's interpreter with `-I`, before and after the packages are installed;
hence only the standard library and `packaging`, at first pip's own copy, at module level.
"""

import ast
import configparser
import os
import re
import subprocess
import sys
from importlib import metadata
from pathlib import Path

# Importing pip makes a later `import setuptools`, as in triton 3.2, fail on Python below 3.12.
try:
    from packaging.requirements import Requirement
    from packaging.utils import canonicalize_name
except ModuleNotFoundError:
    from pip._vendor.packaging.requirements import Requirement
    from pip._vendor.packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[1]
# Their versions follow from torch's, so these pins do not hold for another torch.
BOUND_TO_TORCH = re.compile(r'torch|torchvision|triton|sympy|nvidia-.+|cuda-.+')
# Of two interchangeable distributions, tools/setup.sh installs one.
ALTERNATIVES = {'mmcv-lite': 'mmcv', 'opencv-python': 'opencv-python-headless'}
PIP_TO_UV = {
    'index-url': 'UV_DEFAULT_INDEX',
    'extra-index-url': 'UV_INDEX',
    'trusted-host': 'UV_INSECURE_HOST',
    'cert': 'SSL_CERT_FILE',
}


def requirements(extras: list[str]) -> list[str]:
    """Requirement lines of setup.cfg for the core and `extras` (`core` itself adds nothing)."""
    config = configparser.ConfigParser()
    config.read(ROOT / 'setup.cfg')
    texts = [config['options']['install_requires']]
    texts += [config['options.extras_require'][extra] for extra in extras if extra != 'core']
    return [line for text in texts for line in text.splitlines() if line]


def pin_lines(torch: str = '', path: Path = ROOT / 'constraints.txt') -> list[str]:
    """Lines of constraints.txt, for another `torch` release without the pins that follow from it.

    mmcv and mmcv-lite are one release, so the one's pin is the other's.
    """
    lines = [line.split('#')[0].strip() for line in path.read_text().splitlines()]
    lines = [line for line in lines if line]
    if torch:
        lines = [line for line in lines if not BOUND_TO_TORCH.fullmatch(line.partition('==')[0])]
        lines.append(f'torch=={torch}.*')
    lines += [line.replace('-lite', '') for line in lines if line.startswith('mmcv-lite==')]
    return lines


def read_pins(torch: str = '', path: Path = ROOT / 'constraints.txt') -> dict[str, Requirement]:
    """Name -> pinned requirement, for those lines that hold for this interpreter."""
    pins = [Requirement(line) for line in pin_lines(torch, path)]
    return {pin.name: pin for pin in pins if pin.marker is None or pin.marker.evaluate()}


def uv_settings() -> list[str]:
    """NAME=VALUE for uv, which reads none of pip's settings: servers of packages, certificates.

    Folders of packages are left to pip, and what the user has set for uv himself stays.
    """
    command = [sys.executable, '-I', '-m', 'pip', 'config', 'list']
    listed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    values = {}
    for section in ('global.', 'install.', ':env:.'):  # the last one counts, as it does for pip
        for line in listed.splitlines():
            name, _, value = line.removeprefix(section).partition('=')
            if line.startswith(section) and name in PIP_TO_UV:
                words = ast.literal_eval(value).split()
                if 'index' in name:
                    words = [word for word in words if word.startswith(('http://', 'https://'))]
                values[PIP_TO_UV[name]] = ' '.join(words)
    if values.get('UV_INDEX'):
        values['UV_INDEX_STRATEGY'] = 'unsafe-best-match'  # all servers are equal, as for pip
    return [f'{k}={v}' for k, v in values.items() if v and k not in os.environ]


def installed_version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def find_installed(name: str) -> tuple[str, str | None]:
    """Name and version of the distribution that is installed as `name` or in its place."""
    other = ALTERNATIVES.get(name)
    if other and installed_version(name) is None and installed_version(other):
        name = other
    return name, installed_version(name)


def needed(lines: list[str]) -> dict[str, str | None]:
    """Name -> version of all that `lines` need, directly or not, None where it is missing."""
    found: dict[str, str | None] = {}
    todo = [Requirement(line) for line in lines]
    seen = set()
    while todo:
        need = todo.pop()
        name, version = find_installed(canonicalize_name(need.name))
        found[name] = version
        for extra in need.extras or {''}:
            if version is None or (name, extra) in seen:
                continue
            seen.add((name, extra))
            for line in metadata.requires(name) or []:
                further = Requirement(line)
                if further.marker is None or further.marker.evaluate({'extra': extra}):
                    todo.append(further)
    return found


def diagnose(extras: list[str], torch: str = '') -> list[tuple[str, str]]:
    """(kind, text) for each needed package that is absent, not pinned or not as pinned, else 'ok'.

    An installed package must have its pinned version even where nothing asks for it.
    """
    pins = read_pins(torch)
    versions = {name: installed_version(name) for name in pins}
    versions = {name: version for name, version in versions.items() if version}
    versions |= needed(['pip', 'setuptools', *requirements(extras)])
    problems = []
    for name, version in sorted(versions.items()):
        pin = pins.get(name)
        if version is None:
            problems.append(f'{name}{pin.specifier if pin else ""}')
        elif pin is None and not (torch and BOUND_TO_TORCH.fullmatch(name)):
            problems.append(f'{name} in constraints.txt (installed: {version})')
        elif pin and not pin.specifier.contains(version, prereleases=True):
            problems.append(f'{name}{pin.specifier} (installed: {version})')
    if installed_version('comad-bench') is None:
        problems.append('the project itself')
    if problems:
        return [('missing', text) for text in problems]
    return [('ok', f'{len(versions)} packages as in constraints.txt')]


def prove_core() -> str:
    """The core starts; besides Python packages it needs OpenCV's system libraries."""
    import cv2  # noqa: F401
    import timm  # noqa: F401
    import torchvision  # noqa: F401
    from mmengine.runner import Runner  # noqa: F401

    # Not yet there when the operators are looked at before they are compiled.
    if installed_version('comad-bench'):
        import comad.engine.register  # noqa: F401

    return 'torch, timm and mmengine start'


def prove_ops(devices: list[str]) -> str:
    """mmcv's operators run and are right, and mmdet and mmseg accept this mmcv."""
    import mmdet.models  # noqa: F401
    import mmseg.models  # noqa: F401
    import torch
    from mmcv.ops import nms, roi_align

    note = ''
    if 'cuda' in devices and not torch.cuda.is_available():
        devices = [device for device in devices if device != 'cuda']
        note = f'; torch {torch.__version__} cannot use the GPU'
    for device in devices:
        boxes = torch.tensor([[0.0, 0, 10, 10], [1, 1, 10, 10], [20, 20, 30, 30]], device=device)
        kept = nms(boxes, torch.tensor([0.9, 0.8, 0.7], device=device), 0.5)[1].tolist()
        image = torch.arange(16.0, device=device).reshape(1, 1, 4, 4)
        box = torch.tensor([[0.0, 0, 0, 4, 4]], device=device)
        mean = roi_align(image, box, (1, 1), 1.0, 2, 'avg', True).item()
        if kept != [0, 2] or abs(mean - 7.5) > 1e-4:
            sys.exit(f'{device}: nms kept {kept}, not [0, 2]; roi_align gave {mean}, not 7.5')
    return f"mmcv's operators are right on {' and '.join(devices)}{note}"


def main(command: str, *arguments: str) -> None:
    if command == 'requirements':
        mmcv, *extras = arguments
        lines = requirements(extras)
        if mmcv == 'compiled':
            lines = [line for line in lines if not line.startswith('mmcv-lite')]
    elif command == 'pins':
        lines = pin_lines(*arguments)
    elif command == 'uv_settings':
        lines = uv_settings()
    elif command == 'diagnose':
        torch, *extras = arguments
        lines = ['\t'.join(found) for found in diagnose(extras, torch)]
    elif command == 'core':
        lines = [prove_core()]
    elif command == 'ops':
        prove_core()
        lines = [prove_ops(list(arguments))]
    else:
        sys.exit(f"unknown command '{command}'")
    for line in lines:
        print(line)


if __name__ == '__main__':
    main(*sys.argv[1:])
