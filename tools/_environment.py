"""What tools/setup.sh asks Python: requirements, installed versions, and proofs that things run.

Runs under the environment's interpreter with `-I`, before and after the packages are installed;
hence only the standard library (and pip's own copy of `packaging`) at module level.
"""

import configparser
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from pip._vendor.packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parents[1]


def requirements(extras: list[str]) -> list[str]:
    """Requirement lines of setup.cfg for the core and `extras` (`core` itself adds nothing)."""
    config = configparser.ConfigParser()
    config.read(ROOT / 'setup.cfg')
    texts = [config['options']['install_requires']]
    texts += [config['options.extras_require'][extra] for extra in extras if extra != 'core']
    return [line for text in texts for line in text.splitlines() if line]


def read_pins(path: Path = ROOT / 'constraints.txt') -> dict[str, Requirement]:
    """Name -> pinned requirement, for those lines that hold for this interpreter."""
    lines = [line.split('#')[0].strip() for line in path.read_text().splitlines()]
    pins = [Requirement(line) for line in lines if line]
    return {pin.name: pin for pin in pins if pin.marker is None or pin.marker.evaluate()}


def installed_version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def diagnose(extras: list[str]) -> list[tuple[str, str]]:
    """(kind, text) for each package that is absent or not as in constraints.txt, else one 'ok'.

    An installed package must have its pinned version even where no extra asks for it.
    """
    pins = read_pins()
    problems = []
    matching = 0
    for name, pin in pins.items():
        found = installed_version(name)
        if found is None:
            continue
        if pin.specifier.contains(found, prereleases=True):
            matching += 1
        else:
            problems.append(f'{name}{pin.specifier} (installed: {found})')
    for need in map(Requirement, requirements(extras)):
        if installed_version(need.name) is None:
            problems.append(f'{need.name}{pins[need.name].specifier}')
    if installed_version('comad-bench') is None:
        problems.append('the project itself')
    if problems:
        return [('missing', text) for text in problems]
    return [('ok', f'{matching} packages as in constraints.txt')]


def prove_core() -> None:
    """The core starts; besides Python packages it needs OpenCV's system libraries."""
    import cv2  # noqa: F401
    import timm  # noqa: F401
    import torchvision  # noqa: F401
    from mmengine.runner import Runner  # noqa: F401


def prove_ops(device: str) -> None:
    """mmcv's compiled code runs on `device` and is right, and mmdet and mmseg accept this mmcv."""
    import mmdet  # noqa: F401
    import mmseg  # noqa: F401
    import torch
    from mmcv.ops import nms, roi_align

    boxes = torch.tensor([[0.0, 0, 10, 10], [1, 1, 10, 10], [20, 20, 30, 30]], device=device)
    kept = nms(boxes, torch.tensor([0.9, 0.8, 0.7], device=device), 0.5)[1].tolist()
    image = torch.arange(16.0, device=device).reshape(1, 1, 4, 4)
    box = torch.tensor([[0.0, 0, 0, 4, 4]], device=device)
    mean = roi_align(image, box, (1, 1), 1.0, 2, 'avg', True).item()
    if kept != [0, 2] or abs(mean - 7.5) > 1e-4:
        sys.exit(f'nms kept {kept} instead of [0, 2], roi_align gave {mean} instead of 7.5')


def main(command: str, *arguments: str) -> None:
    if command == 'requirements':
        print('\n'.join(requirements(list(arguments))))
    elif command == 'diagnose':
        for kind, text in diagnose(list(arguments)):
            print(kind, text, sep='\t')
    elif command == 'core':
        prove_core()
    elif command == 'ops':
        prove_ops(*arguments)
    else:
        sys.exit(f"unknown command '{command}'")


if __name__ == '__main__':
    main(*sys.argv[1:])
