"""Finds `mmcv._ext`, mmcv's operators, in ``mmcv_ext.py`` where no compiled one is installed.

mmdet and mmseg import all of `mmcv.ops`, but of its compiled operators plain detectors and
segmentors call only NMS and RoIAlign, which torchvision has. ``ops/`` packs the same file for the
site-packages, for programs that import mmdet or mmseg before `backbones`.
"""

import sys
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from importlib.util import spec_from_file_location
from pathlib import Path
from types import ModuleType

OPERATORS = Path(__file__).with_name('mmcv_ext.py')


class OperatorFinder(MetaPathFinder):
    """Answers for ``mmcv._ext`` alone."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """The module on torchvision's kernels; nothing is imported before it is loaded."""
        return spec_from_file_location(fullname, OPERATORS) if fullname == 'mmcv._ext' else None


def provide_operators() -> None:
    """Let ``import mmcv._ext`` succeed; asked last, so that any installed one wins."""
    if not any(isinstance(finder, OperatorFinder) for finder in sys.meta_path):
        sys.meta_path.append(OperatorFinder())
