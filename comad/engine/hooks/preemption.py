"""Saving in time, and stopping at a step that can be gone on from when a signal asks for it."""

from pathlib import Path
from typing import Any

import torch
import torch.distributed
from mmengine.dist import get_world_size, is_main_process
from mmengine.hooks import Hook
from mmengine.registry import HOOKS
from mmengine.runner import EpochBasedTrainLoop

from comad.engine.checkpointing import SafeCheckpointHook
from comad.engine.group import time_limit
from comad.engine.preemption import SIGNALS, Preempted, stop_request, write_requeue

SAVE = 'save'
# What a process may ask of all; if several ask, the last of these counts.
ASKS = (None, SAVE, *(number.name for number in SIGNALS))


@HOOKS.register_module()
class PreemptionHook(Hook):
    """Saves after the step in which SIGTERM, SIGUSR1 or Ctrl-C arrived, then ends the training.

    It also saves, and goes on, where the last checkpoint is older than its hook's ``minutes``.

    With accumulated batches it waits for the next update of the weights, since gradients are in no
    checkpoint. A validation is left only where the step before it has been saved; the resumed run
    repeats it. Several processes agree after every update, though only one may have got the signal:
    one integer over gloo on the CPU, so that no GPU is waited for. They look at it after the next
    update, so that no process waits for another's.

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
            limit = time_limit(runner.cfg.get('env_cfg') or {})
            self.group = (
                torch.distributed.new_group(backend='gloo', timeout=limit)
                if own
                else torch.distributed.group.WORLD
            )
        self.asked: str | None = None
        self.asking: tuple[torch.Tensor, Any] | None = None
        self.validation_steps = 0
        self.training = True

    def after_train_iter(
        self, runner: Any, batch_idx: int, data_batch: Any = None, outputs: Any = None
    ) -> None:
        if not runner.optim_wrapper.should_update():
            return
        asked = self._agree()
        self.asked = asked if asked != SAVE else None
        if asked is None:
            return
        in_epochs = isinstance(runner.train_loop, EpochBasedTrainLoop) and self.saver.by_epoch
        if in_epochs and self.end_of_epoch(runner.train_dataloader, batch_idx):
            return  # the epoch is complete in a moment
        saved = self.saver.save_now(runner)
        if self.asked:
            self._stop(runner, self.asked, saved, runner.iter + 1)

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
        if self.saver.saved_steps != runner.iter:
            return
        if (asked := self._agree()) not in (None, SAVE):
            self._stop(runner, asked, Path(self.saver.last_ckpt), runner.iter)

    def after_train(self, runner: Any) -> None:
        self.training = False
        self._answer()

    def _agree(self) -> str | None:
        """What any process has asked for, the same answer on all; see `ASKS`."""
        mine = stop_request.signal or (SAVE if self.saver.is_late() else None)
        if self.group is None:
            return mine
        answer = self._answer()
        code = torch.tensor(ASKS.index(mine))
        work = torch.distributed.all_reduce(
            code, torch.distributed.ReduceOp.MAX, self.group, async_op=True
        )
        self.asking = code, work
        return answer

    def _answer(self) -> str | None:
        """What all have asked for when they did last."""
        if self.asking is None:
            return None
        (code, work), self.asking = self.asking, None
        work.wait()
        return ASKS[int(code)]

    def _stop(self, runner: Any, name: str, checkpoint: Path, step: int) -> None:
        if is_main_process():
            write_requeue(runner.work_dir, name, step, checkpoint.name)
        if self.group is not None:
            # The launcher ends all processes when the first has gone: not before the save is done.
            self._answer()
            torch.distributed.barrier(self.group)
        raise Preempted(
            f'{name}: saved {checkpoint} after step {step}; --resume goes on from there'
        )
