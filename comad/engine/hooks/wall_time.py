"""Training seconds and images of a run, carried over resumes."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from mmengine.dist import get_world_size
from mmengine.hooks import Hook
from mmengine.registry import HOOKS


@HOOKS.register_module()
class WallTimeHook(Hook):
    """Keeps ``train_seconds`` and ``images_seen`` in the message hub, hence in checkpoints.

    Validation inside the training loop is not counted: the interval from a step's end to the
    next one's begin counts only while no validation lies in between.
    """

    priority = 'HIGH'

    def before_train(self, runner: Any) -> None:
        info = runner.message_hub.runtime_info
        self.seconds = float(info.get('train_seconds', 0.0))
        self.images = int(info.get('images_seen', 0))
        self.mark = time.perf_counter()

    def before_val(self, runner: Any) -> None:
        self.count(runner)

    def after_val(self, runner: Any) -> None:
        self.mark = time.perf_counter()

    def after_train_iter(
        self, runner: Any, batch_idx: int, data_batch: Any = None, outputs: Any = None
    ) -> None:
        self.images += runner.train_dataloader.batch_sampler.batch_size * get_world_size()
        self.count(runner)

    def count(self, runner: Any) -> None:
        """Bring ``seconds`` up to now."""
        if not hasattr(self, 'mark'):  # a validation without a training
            return
        now = time.perf_counter()
        self.seconds += now - self.mark
        self.mark = now
        runner.message_hub.update_info('train_seconds', self.seconds)
        runner.message_hub.update_info('images_seen', self.images)


@contextmanager
def untimed(runner: Any) -> Iterator[None]:
    """Stop the clock of a training while something else is measured or drawn."""
    clocks = [hook for hook in runner.hooks if isinstance(hook, WallTimeHook)]
    for clock in clocks:
        clock.before_val(runner)
    try:
        yield
    finally:
        for clock in clocks:
            clock.after_val(runner)
