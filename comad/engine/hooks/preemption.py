"""Stopping at a step that can be gone on from, when a signal asks for it."""

from pathlib import Path
from typing import Any

import torch
import torch.distributed
from mmengine.dist import get_world_size, is_main_process
from mmengine.hooks import Hook
from mmengine.registry import HOOKS
from mmengine.runner import EpochBasedTrainLoop

from comad.engine.checkpointing import SafeCheckpointHook
from comad.engine.preemption import SIGNALS, Preempted, stop_request, write_requeue


@HOOKS.register_module()
class PreemptionHook(Hook):
    """Saves after the step in which SIGTERM, SIGUSR1 or Ctrl-C arrived, then ends the training.

    With accumulated batches it waits for the next update of the weights, since gradients are in no
    checkpoint. A validation is left only where the step before it has been saved; the resumed run
    repeats it. Several processes agree after every update, though only one may have got the signal:
    one integer over gloo on the CPU, so that no GPU is waited for.

    Raises:
        Preempted: everything is saved and ``<work_dir>/requeue`` written.
        ValueError: no `SafeCheckpointHook` to save with.
    """

    priority = 'LOWEST'

    def before_train(self, runner: Any) -> None:
        savers = [hook for hook in runner.hooks if isinstance(hook, SafeCheckpointHook)]
        if not savers:
            raise ValueError('PreemptionHook needs default_hooks.checkpoint=SafeCheckpointHook')
        self.saver = savers[0]
        self.group = None
        if get_world_size() > 1:
            # A second gloo group that is left open can abort the process at its end: see `launch`.
            own = torch.distributed.get_backend() != 'gloo'
            self.group = (
                torch.distributed.new_group(backend='gloo')
                if own
                else torch.distributed.group.WORLD
            )
        self.asked: str | None = None
        self.validation_steps = 0
        self.training = True

    def after_train_iter(
        self, runner: Any, batch_idx: int, data_batch: Any = None, outputs: Any = None
    ) -> None:
        if not runner.optim_wrapper.should_update():
            return
        self.asked = self._agree()
        if self.asked is None:
            return
        in_epochs = isinstance(runner.train_loop, EpochBasedTrainLoop) and self.saver.by_epoch
        if in_epochs and self.end_of_epoch(runner.train_dataloader, batch_idx):
            return  # the epoch is complete in a moment
        self._stop(runner, self.asked, self.saver.save_now(runner), runner.iter + 1)

    def after_train_epoch(self, runner: Any) -> None:
        if self.asked and runner.optim_wrapper.should_update() and self.saver.by_epoch:
            self._stop(runner, self.asked, self.saver.save_epoch(runner), runner.iter)

    def before_val_epoch(self, runner: Any) -> None:
        if getattr(self, 'training', False):
            steps = torch.tensor(len(runner.val_dataloader))
            if self.group is not None:  # processes may have unequal shares
                torch.distributed.all_reduce(steps, torch.distributed.ReduceOp.MIN, self.group)
            self.validation_steps = int(steps)

    def after_val_iter(
        self, runner: Any, batch_idx: int, data_batch: Any = None, outputs: Any = None
    ) -> None:
        if not getattr(self, 'training', False) or batch_idx >= self.validation_steps:
            return
        if self.saver.saved_steps == runner.iter and (asked := self._agree()):
            self._stop(runner, asked, Path(self.saver.last_ckpt), runner.iter)

    def after_train(self, runner: Any) -> None:
        self.training = False

    def _agree(self) -> str | None:
        """The signal that any process has got, the same answer on all."""
        names = [number.name for number in SIGNALS]
        if self.group is None:
            return stop_request.signal
        code = torch.tensor(
            0 if stop_request.signal is None else 1 + names.index(stop_request.signal)
        )
        torch.distributed.all_reduce(code, torch.distributed.ReduceOp.MAX, self.group)
        return names[int(code) - 1] if code else None

    def _stop(self, runner: Any, name: str, checkpoint: Path, step: int) -> None:
        if is_main_process():
            write_requeue(runner.work_dir, name, step, checkpoint.name)
        if self.group is not None:
            # The launcher ends all processes when the first has gone: not before the save is done.
            torch.distributed.barrier(self.group)
        raise Preempted(
            f'{name}: saved {checkpoint} after step {step}; --resume goes on from there'
        )
