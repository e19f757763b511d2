"""Hooks of the suite's runs."""

from .best import BestCheckpointHook
from .export import StudentExportHook
from .multi_scale import MultiScaleTestHook
from .preemption import PreemptionHook
from .prepare import PrepareMethodHook
from .record import RunRecordHook
from .step_seed import StepSeedHook
from .wall_time import WallTimeHook

__all__ = [
    'BestCheckpointHook',
    'MultiScaleTestHook',
    'PreemptionHook',
    'PrepareMethodHook',
    'RunRecordHook',
    'StepSeedHook',
    'StudentExportHook',
    'WallTimeHook',
]
