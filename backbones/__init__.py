"""Networks and their weights, and the files that all of the suite writes; imports nothing of it.

A foreign MMEngine config needs ``custom_imports = dict(imports=['backbones'])`` and nothing else
to build `MaskedViT` and the pyramids under any default scope. Where MMEngine is not loaded, as in
tools that only read and write files, importing the package is cheap: names come on first use.
mmcv's operators come with it where none are compiled, see `mmcv_finder`.
"""

import sys
from importlib import import_module
from typing import Any

from backbones.mmcv_finder import provide_operators

HOMES = {
    'CheckpointError': 'checkpoints',
    'read_checkpoint': 'checkpoints',
    'MultiLevelPyramid': 'pyramid',
    'SimpleFeaturePyramid': 'pyramid',
    'check_strides': 'pyramid',
    'StudentWeights': 'student',
    'build_network': 'networks',
    'load_student': 'networks',
    'save_student': 'student',
    'FAMILIES': 'families',
    'Teacher': 'teachers',
    'build_teacher': 'teachers',
    'untrained_teachers': 'teachers',
    'ARCHITECTURES': 'architectures',
    'MaskedViT': 'vit',
    'StagedClassifier': 'staged',
    'MaskedVideoViT': 'video_vit',
}
__all__ = list(HOMES)  # noqa: PLE0605


def __getattr__(name: str) -> Any:
    if name not in HOMES:
        raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
    return getattr(import_module(f'.{HOMES[name]}', __name__), name)


def register() -> None:
    """Enter the networks in MMEngine's registry."""
    for module in ('vit', 'staged', 'video_vit', 'pyramid'):
        import_module(f'.{module}', __name__)


provide_operators()
if 'mmengine' in sys.modules:  # as in every process that reads a config's custom_imports
    register()
