"""Hooks of the suite's runs."""

from comad.engine.hooks.bad_images import BadImagesHook
from comad.engine.hooks.best import BestCheckpointHook
from comad.engine.hooks.export import StudentExportHook
from comad.engine.hooks.loss_check import LossCheckHook
from comad.engine.hooks.multi_scale import MultiScaleTestHook
from comad.engine.hooks.online_probe import OnlineProbeHook
from comad.engine.hooks.per_class import PerClassHook
from comad.engine.hooks.predictions import PredictionFigureHook
from comad.engine.hooks.preemption import PreemptionHook
from comad.engine.hooks.prepare import PrepareMethodHook
from comad.engine.hooks.pretrain_figures import PretrainFigureHook
from comad.engine.hooks.record import RunRecordHook
from comad.engine.hooks.run_info import DeferredInfoHook
from comad.engine.hooks.step_seed import StepSeedHook
from comad.engine.hooks.throughput import BenchmarkLogProcessor, ThroughputHook
from comad.engine.hooks.wall_time import WallTimeHook

__all__ = [
    'BadImagesHook',
    'BenchmarkLogProcessor',
    'BestCheckpointHook',
    'DeferredInfoHook',
    'LossCheckHook',
    'MultiScaleTestHook',
    'OnlineProbeHook',
    'PerClassHook',
    'PredictionFigureHook',
    'PreemptionHook',
    'PrepareMethodHook',
    'PretrainFigureHook',
    'RunRecordHook',
    'StepSeedHook',
    'StudentExportHook',
    'ThroughputHook',
    'WallTimeHook',
]
