"""The suite's leaves, and what they resolve to, each resolved once per test process."""

import copy
from functools import cache
from pathlib import Path
from typing import Any

from mmengine.config import Config

from comad.engine.options import RunOptions
from comad.engine.run_config import load_run_config
from comad.runs.place import FILES
from comad.tasks.task import Task

# Networks on video have students of their own, and each size a recipe.
VIDEO_STUDENTS = {
    'k400_finetune': 'amd_video_small',
    'ssv2_finetune': 'amd_video_small',
    'k400_linear': 'amd_video_small',
    'ssv2_linear': 'amd_video_small',
    'k400_knn': 'amd_video_small',
    'ssv2_knn': 'amd_video_small',
    'k400_finetune_base': 'amd_video_base',
    'ssv2_finetune_base': 'amd_video_base',
}
FOLDERS = ('pretrain', 'cls', 'seg', 'det', 'distill', 'video')


def leaves(*folders: str) -> list[Path]:
    """All leaves of some folders, such as ``cls``; of all by default."""
    return sorted(
        path for name in folders or FOLDERS for path in (FILES / f'{name}_configs').glob('*.py')
    )


def leaf_of(task: Task) -> str:
    """The leaf that every student of a task is transferred by."""
    student = 'fbt_swin_tiny_resnet18' if task.folder == 'distill' else 'comad_tiny'
    return task.leaf(VIDEO_STUDENTS.get(task.kind, student))


def resolved(leaf: str | Path, sample: bool = False) -> dict[str, Any]:
    """A copy of what `load_run_config` makes of a leaf, named relative to the suite's files.

    Data, teachers and student need not be there.
    """
    return copy.deepcopy(_resolved(str(FILES / leaf), sample))


def resolved_config(leaf: str | Path, sample: bool = False) -> Config:
    """The same as a `Config`."""
    return Config(resolved(leaf, sample))


@cache
def _resolved(path: str, sample: bool) -> dict[str, Any]:
    return load_run_config(
        RunOptions(path, track='sample' if sample else 'full'), check=False
    )._cfg_dict.to_dict()
