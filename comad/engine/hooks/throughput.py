"""How fast a training goes, what it waits for, and how much of the device it uses."""

import math
from typing import Any

import torch
from mmengine.dist import all_reduce, get_world_size
from mmengine.hooks import Hook
from mmengine.registry import HOOKS, LOG_PROCESSORS
from mmengine.runner import LogProcessor

from comad.engine.hooks.export import StudentExportHook
from comad.engine.hooks.run_info import logs_now
from comad.engine.hooks.wall_time import WallTimeHook
from comad.engine.models import unwrapped

RATE, WAIT, UTILISATION = 'images_per_second', 'data_wait', 'mfu'
SHOWN = {RATE: 'images/s: {:.1f}', WAIT: 'data wait: {:.1f} %', UTILISATION: 'MFU: {:.1f} %'}
REMEDY = 'more train_dataloader.num_workers, tar shards (tools/data.py shard) or decode=opencv help'
# Dense bfloat16 tensor-core peak with float32 accumulation in TFLOP/s, and the NVIDIA document that
# states it; most of its figures are with sparsity, twice these. The first name contained in the
# device's counts. A card without such a document has no utilisation.
PEAKS = {
    'A100': (312.0, 'A100 Tensor Core GPU data sheet'),
    'H100 PCIe': (756.5, 'H100 Tensor Core GPU data sheet, H100 PCIe: 1,513 with sparsity'),
    'H100 NVL': (835.5, 'H100 Tensor Core GPU data sheet, H100 NVL: 1,671 with sparsity'),
    'H100': (989.5, 'H100 Tensor Core GPU data sheet, H100 SXM: 1,979 with sparsity'),
    'H200 NVL': (835.5, 'H200 Tensor Core GPU data sheet, H200 NVL: 1,671 with sparsity'),
    'H200': (989.5, 'H200 Tensor Core GPU data sheet, H200 SXM: 1,979 with sparsity'),
    'L40S': (362.05, 'L40S data sheet'),
}


@HOOKS.register_module()
class ThroughputHook(Hook):
    """Adds images per second, data wait and model-FLOP utilisation to every line of the log.

    All are of the steps since the last line, without validation and probes: the clock and the
    images, of all processes and accumulated batches, are those of `WallTimeHook`.

    ``images_per_second``: images seen / seconds. ``data_wait``: percent of the seconds in which
    the process that waited longest stood still for a batch. ``mfu``: percent of the devices' peak
    that the model's own operations reach, forward and backward; for methods that say what an image
    costs (``gflop_per_image``), and pretrainings that are exported.

    The device is waited for once per line at most. Nothing of this goes into checkpoints.

    Args:
        max_data_wait: Share of the seconds above which a line of warning says what helps; not for
            the first window, in which workers start.
        quiet: Windows without another warning after one. Our choice.
        peak_tflops: Peak of one device in TFLOP/s; default: the published 16-bit tensor-core
            figure of a known GPU (`PEAKS`), else there is no utilisation.

    Raises:
        ValueError: a share outside of 0 to 1, a peak or a number of windows that is not positive,
            or a run without `WallTimeHook`.
    """

    # After the timers and before the logger.
    priority = 'NORMAL'

    def __init__(
        self, max_data_wait: float = 0.1, quiet: int = 10, peak_tflops: float | None = None
    ) -> None:
        if not 0 <= max_data_wait <= 1:
            raise ValueError(f'ThroughputHook max_data_wait={max_data_wait}: expected 0 to 1')
        if quiet < 1:
            raise ValueError(f'ThroughputHook quiet={quiet}: expected 1 window or more')
        if peak_tflops is not None and not (peak_tflops > 0 and math.isfinite(peak_tflops)):
            raise ValueError(f'ThroughputHook peak_tflops={peak_tflops}: expected a positive one')
        self.max_data_wait, self.quiet, self.peak_tflops = max_data_wait, quiet, peak_tflops

    def before_train(self, runner: Any) -> None:
        clocks = [hook for hook in runner.hooks if isinstance(hook, WallTimeHook)]
        if not clocks:
            raise ValueError('ThroughputHook needs default_hooks.wall_time=WallTimeHook')
        self.clock = clocks[0]
        self.began: tuple[float, int, float | None] | None = None
        self.windows, self.silent = 0, 1
        self.peak = self.peak_tflops or known_peak()

    def before_train_iter(self, runner: Any, batch_idx: int, data_batch: Any = None) -> None:
        if self.began is None:  # what is done once before the first step is no training speed
            self.clock.count(runner)
            self.began = self._now(runner)

    def after_train_iter(
        self, runner: Any, batch_idx: int, data_batch: Any = None, outputs: Any = None
    ) -> None:
        if not logs_now(runner, batch_idx):
            return
        before, self.began = self.began, self._now(runner)
        seconds, images = self.began[0] - before[0], self.began[1] - before[1]
        rate = images / max(seconds, 1e-9)
        figures = {RATE: rate}
        if self.began[2] is not None:
            share = torch.tensor((self.began[2] - before[2]) / max(seconds, 1e-9))
            all_reduce(share, 'max')
            figures[WAIT] = 100 * min(1.0, float(share))
            self._warn(runner, figures[WAIT])
        gflop = self._gflop(runner) if self.peak else None
        if gflop:
            figures[UTILISATION] = 100 * rate * gflop / (1000 * self.peak * get_world_size())
        for name, value in figures.items():
            runner.message_hub.update_scalar(f'train/{name}', value, resumed=False)
        self.windows += 1

    def before_save_checkpoint(self, runner: Any, checkpoint: dict[str, Any]) -> None:
        """Leave no mention of the figures: MMEngine warns of names without values."""
        hub = checkpoint.get('message_hub')
        if hub is not None:
            hub['resumed_keys'] = {name: True for name, kept in hub['resumed_keys'].items() if kept}

    def _now(self, runner: Any) -> tuple[float, int, float | None]:
        """Seconds of training, images, and seconds in which the loop waited for data."""
        waited = getattr(runner.train_loop, 'data_seconds', None)
        return self.clock.seconds, self.clock.images, waited

    def _warn(self, runner: Any, percent: float) -> None:
        self.silent -= 1
        if self.windows and self.silent <= 0 and percent > 100 * self.max_data_wait:
            self.silent = self.quiet + 1
            runner.logger.warning(
                # With the step, as the logger leaves out what it has said before.
                f'step {runner.iter + 1}: {percent:.0f} % of the time went into waiting for data: '
                f'{REMEDY}'
            )

    @staticmethod
    def _gflop(runner: Any) -> float | None:
        """GFLOP of one training image, where the method or its export has counted them."""
        own = getattr(unwrapped(runner.model), 'gflop_per_image', None)
        if own is not None:
            return own() if callable(own) else own
        exports = (hook for hook in runner.hooks if isinstance(hook, StudentExportHook))
        return next((getattr(hook, 'gflop', None) for hook in exports), None)


@LOG_PROCESSORS.register_module()
class BenchmarkLogProcessor(LogProcessor):
    """`LogProcessor` that prints the figures of `ThroughputHook` with their units."""

    def get_log_after_iter(self, runner: Any, batch_idx: int, mode: str) -> tuple[dict, str]:
        """The figures for other writers and the line, see `LogProcessor`."""
        tag, text = super().get_log_after_iter(runner, batch_idx, mode)
        prefix = f'{mode}/' if self.log_with_hierarchy else ''
        for name, form in SHOWN.items():
            value = tag.get(prefix + name)
            if value is not None:
                text = text.replace(f'{name}: {value:.{self.num_digits}f}', form.format(value))
        return tag, text


def known_peak(name: str | None = None) -> float | None:
    """Peak in TFLOP/s of the device of this name, by default the present one; None if not known."""
    if name is None:
        if not torch.cuda.is_available():
            return None
        name = torch.cuda.get_device_name()
    return next((peak for part, (peak, _) in PEAKS.items() if part in name), None)
