"""Hooks of the suite's runs."""

from .bad_images import BadImagesHook
from .best import BestCheckpointHook
from .export import StudentExportHook
from .loss_check import LossCheckHook
from .multi_scale import MultiScaleTestHook
from .preemption import PreemptionHook
from .prepare import PrepareMethodHook
from .record import RunRecordHook
from .run_info import DeferredInfoHook
from .step_seed import StepSeedHook
from .throughput import BenchmarkLogProcessor, ThroughputHook
from .wall_time import WallTimeHook

__all__ = [
    'BadImagesHook',
    'BenchmarkLogProcessor',
    'BestCheckpointHook',
    'DeferredInfoHook',
    'LossCheckHook',
    'MultiScaleTestHook',
    'PreemptionHook',
    'PrepareMethodHook',
    'RunRecordHook',
    'StepSeedHook',
    'StudentExportHook',
    'ThroughputHook',
    'WallTimeHook',
]
