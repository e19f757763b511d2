"""Where OpenMMLab's packages do not fit today's Python, setuptools or their maintained forks.

One function each, with the reason, so that it can go when the reason does. Nothing here imports
torch: configs are read, and refused, before anything heavy starts.
"""

import pkgutil
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

KEPT_TEXTS = 8


def apply() -> None:
    """Bridge all of it; `parse_config` calls this, as every run begins there."""
    find_config_packages()
    restore_find_loader()
    format_configs_once()


def find_config_packages() -> None:
    """Let MMEngine find the packages of ``mmdet::`` and ``mmseg::`` bases as Python's import does.

    MMEngine 0.10.7 looks their distributions up through pkg_resources, which setuptools dropped in
    release 82, and under the original names, so that mmseg counts as missing where
    onedl-mmsegmentation provides it. Where a module lies depends on neither.
    """
    from mmengine.config import config
    from mmengine.config.utils import MODULE2PACKAGE

    modules = {package: module for module, package in MODULE2PACKAGE.items()}

    def is_installed(package: str) -> bool:
        spec = find_spec(modules.get(package, package))
        return bool(spec and spec.origin)

    def get_installed_path(package: str) -> str:
        module = modules.get(package, package)
        spec = find_spec(module)
        if spec is None or spec.origin is None:
            raise ModuleNotFoundError(f'no package {module!r} is installed', name=module)
        return str(Path(spec.origin).parent)

    config.is_installed, config.get_installed_path = is_installed, get_installed_path


def restore_find_loader() -> None:
    """Give pkgutil the function back that Python 3.14 dropped.

    MMEngine 0.10.7 calls it to find mmcv's operators whenever it builds an optimizer, mmcv 2.1.0
    in `check_ops_exist`.
    """
    if not hasattr(pkgutil, 'find_loader'):
        pkgutil.find_loader = lambda name: (spec := find_spec(name)) and spec.loader


def format_configs_once() -> None:
    """Let MMEngine lay the text of a config out once, not anew for every checkpoint and log.

    yapf needs 0.1 to 0.6 s for the same text each time.
    """
    from mmengine.config import config

    if isinstance(config.FormatCode, _RememberingFormatter):
        return
    config.FormatCode = _RememberingFormatter(config.FormatCode)


class _RememberingFormatter:
    """yapf's FormatCode with the last few texts kept."""

    def __init__(self, format_code: Callable[..., Any]) -> None:
        self.format_code = format_code
        self.done: dict[str, Any] = {}

    def __call__(self, text: str, **options: Any) -> Any:
        key = f'{options} {text}'
        if key not in self.done:
            if len(self.done) >= KEPT_TEXTS:
                self.done.pop(next(iter(self.done)))
            self.done[key] = self.format_code(text, **options)
        return self.done[key]
