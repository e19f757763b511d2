"""Checkpoints that are plain, written atomically and pruned only after the new one is there.

MMEngine's own checkpoints hold HistoryBuffers and numpy objects, which a safe reader refuses, so
that a run could never be resumed on current torch.
"""

import time
from pathlib import Path
from typing import Any

import numpy as np
from mmengine.dist import all_gather_object, get_rank, get_world_size, is_main_process
from mmengine.hooks import CheckpointHook, Hook
from mmengine.logging import HistoryBuffer
from mmengine.registry import HOOKS
from mmengine.runner import CheckpointLoader
from torch import Tensor, nn

from backbones.checkpoints import read_checkpoint, tensor_digest
from comad.engine.checkpoint_files import clean_up, point_to, remove_checkpoint
from comad.engine.models import unwrapped

# Buffers that differ between processes, such as batch statistics. The main process writes the one
# checkpoint: without them the others would resume with its statistics.
RANK_BUFFERS = 'rank_buffers'


@CheckpointLoader.register_scheme(prefixes='', force=True)
def load_local(filename: str, map_location: Any = None) -> dict[str, Any]:
    """MMEngine's loading of local files, through the project's one safe reader.

    Tensors stay on the CPU whatever ``map_location`` says; loading into a module or an optimizer
    copies them to its device.
    """
    return read_checkpoint(filename)


def to_plain(value: Any) -> Any:
    """Nested containers of plain Python and tensors; numpy becomes Python, a HistoryBuffer a dict.

    Raises:
        TypeError: something that has no plain form.
    """
    if value is None or type(value) in (bool, int, float, str, bytes) or isinstance(value, Tensor):
        return value
    if isinstance(value, HistoryBuffer):
        history, counts = value.data
        return {
            'history_buffer': history.tolist(),
            'counts': counts.tolist(),
            'max_length': int(value.max_length),
        }
    if isinstance(value, dict):
        return {to_plain(key): to_plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        items = [to_plain(item) for item in value]
        return tuple(items) if isinstance(value, tuple) else items
    if isinstance(value, (np.generic, np.ndarray)):
        return value.tolist()
    if isinstance(value, Path):
        return str(value)
    raise TypeError(f'{type(value).__name__} has no plain form and cannot go into a checkpoint')


def rebuild_buffers(scalars: dict[str, Any]) -> dict[str, HistoryBuffer]:
    """The HistoryBuffers of a message hub from their plain form."""
    return {
        name: HistoryBuffer(value['history_buffer'], value['counts'], value['max_length'])
        for name, value in scalars.items()
    }


@HOOKS.register_module()
class PlainCheckpointHook(Hook):
    """Turns a checkpoint into plain data before it is written and back after it is read."""

    priority = 'LOWEST'

    def before_save_checkpoint(self, runner: Any, checkpoint: dict[str, Any]) -> None:
        # OneCycleLR and its kin keep a function in their state; building them makes it again.
        schedulers = checkpoint.get('param_schedulers', [])
        checkpoint['param_schedulers'] = [
            {key: value for key, value in state.items() if not callable(value)}
            for state in schedulers
        ]
        for key in list(checkpoint):
            if key != 'state_dict':
                checkpoint[key] = to_plain(checkpoint[key])

    def after_load_checkpoint(self, runner: Any, checkpoint: dict[str, Any]) -> None:
        hub = checkpoint.get('message_hub')
        if hub is not None:
            hub['log_scalars'] = rebuild_buffers(hub['log_scalars'])


@HOOKS.register_module()
class SafeCheckpointHook(CheckpointHook):
    """`CheckpointHook` that writes, then swaps ``last_checkpoint``, then removes what is too old.

    Accumulated gradients are in no checkpoint: one that is due between two updates of the weights
    is written after the next. ``by_epoch=False`` saves every n steps, in epochs as well.
    How a file is written and found again: `comad.engine.checkpoint_files`.

    Args:
        max_keep_ckpts: Checkpoints kept besides nothing else; older ones are removed last.
        minutes: Age of the last checkpoint from which `PreemptionHook` has another one written.

    Raises:
        ValueError: ``save_best``, since the suite reports the last checkpoint, never the best on
            the validation set.
    """

    def __init__(self, *args: Any, minutes: float = 15, **kwargs: Any) -> None:
        if kwargs.get('save_best') is not None:
            raise ValueError(
                'save_best: the suite reports the last checkpoint, never the best one; '
                'BestCheckpointHook keeps the best as an extra file'
            )
        super().__init__(*args, **kwargs)
        self.seconds = 60 * minutes
        self.saved_at = time.monotonic()
        self.due: int | None = None
        self.saved_steps: int | None = None
        self.rank_buffers: list[dict[str, Tensor]] = []

    def after_train_iter(
        self, runner: Any, batch_idx: int, data_batch: Any = None, outputs: Any = None
    ) -> None:
        step = runner.iter + 1
        if not self.by_epoch and (
            self.every_n_train_iters(runner, self.interval, self.save_begin)
            or (self.save_last and self.is_last_train_iter(runner))
        ):
            self.due = step
        if self.due is not None and runner.optim_wrapper.should_update():
            name = self.due if self.by_epoch else step
            self.due = None
            self._save_checkpoint_with_step(runner, name, dict(epoch=runner.epoch, iter=step))

    def after_train_epoch(self, runner: Any) -> None:
        if not runner.optim_wrapper.should_update():
            if self.by_epoch and self.every_n_epochs(runner, self.interval, self.save_begin):
                self.due = runner.epoch + 1
            return
        super().after_train_epoch(runner)

    def is_late(self) -> bool:
        """Whether the last checkpoint is older than it should be, by the first process's clock."""
        return is_main_process() and time.monotonic() - self.saved_at > self.seconds

    def _save_checkpoint_with_step(self, runner: Any, step: int, meta: dict[str, Any]) -> None:
        self._save(runner, self.filename_tmpl.format(step), meta)

    def save_now(self, runner: Any) -> Path:
        """Save after the current step, whatever the interval says, unless that has been done.

        Called from an ``after_train_iter`` or, at an epoch's end, an ``after_train_epoch``. A file
        within an epoch is called ``epoch_<epochs done>_iter_<steps done>.pth``.
        """
        steps = runner.iter + 1
        if self.saved_steps != steps:
            name = (
                f'epoch_{runner.epoch}_iter_{steps}.pth' if self.by_epoch else f'iter_{steps}.pth'
            )
            self._save(runner, name, dict(epoch=runner.epoch, iter=steps))
        return Path(self.last_ckpt)

    def save_epoch(self, runner: Any) -> Path:
        """Likewise, from an ``after_train_epoch``."""
        if self.saved_steps != runner.iter:
            name = f'epoch_{runner.epoch + 1}.pth'
            self._save(runner, name, dict(epoch=runner.epoch + 1, iter=runner.iter))
        return Path(self.last_ckpt)

    def _save(self, runner: Any, name: str, meta: dict[str, Any]) -> None:
        self.last_ckpt = str(Path(self.out_dir) / name)
        info = runner.message_hub.runtime_info
        earlier = [self.filename_tmpl.format(step) for step in info.get('keep_ckpt_ids', [])]
        kept = [other for other in info.get('kept_checkpoints', earlier) if other != name] + [name]
        surplus = kept[: -self.max_keep_ckpts] if self.max_keep_ckpts > 0 else []
        kept = kept[len(surplus) :]
        runner.message_hub.update_info('kept_checkpoints', kept)
        runner.message_hub.update_info('last_ckpt', self.last_ckpt)
        self.rank_buffers = gather_rank_buffers(runner.model)
        runner.save_checkpoint(
            self.out_dir,
            name,
            save_optimizer=self.save_optimizer,
            save_param_scheduler=self.save_param_scheduler,
            meta=meta,
            by_epoch=self.by_epoch,
        )
        self.saved_steps, self.saved_at = meta['iter'], time.monotonic()
        if is_main_process():
            point_to(runner.work_dir, kept[::-1])
            for old in surplus:
                remove_checkpoint(Path(self.out_dir) / old)

    def before_save_checkpoint(self, runner: Any, checkpoint: dict[str, Any]) -> None:
        checkpoint[RANK_BUFFERS] = self.rank_buffers

    def before_train(self, runner: Any) -> None:
        """Without the parent's pruning, which happens before anything new has been written."""
        keep, self.max_keep_ckpts = self.max_keep_ckpts, -1
        super().before_train(runner)
        self.max_keep_ckpts = keep
        self.saved_at = time.monotonic()
        if runner._resume and runner.iter:
            self.saved_steps, self.last_ckpt = runner.iter, runner._load_from
        if is_main_process() and (left := clean_up(self.out_dir)):
            names = ', '.join(path.name for path in left)
            runner.logger.info(f'removed what an interrupted save had left: {names}')


def local_buffers(model: nn.Module) -> dict[str, Tensor]:
    """Floating-point buffers of this process that its checkpoints hold, on the CPU."""
    module = unwrapped(model)
    held = module.state_dict()
    return {
        name: buffer.detach().cpu().clone()
        for name, buffer in module.named_buffers()
        if name in held and buffer.is_floating_point()
    }


def gather_rank_buffers(model: nn.Module) -> list[dict[str, Tensor]]:
    """Per process the buffers that are not the main process's; empty for one process.

    A collective: every process has to call it. Digests go first: most buffers are the same
    everywhere, and would be sent as often as there are processes.
    """
    if get_world_size() == 1:
        return []
    held = local_buffers(model)
    digests = all_gather_object(
        {name: tensor_digest([(name, value)]) for name, value in held.items()}
    )
    differ = [name for name in held if len({told[name] for told in digests}) > 1]
    everywhere = all_gather_object({name: held[name] for name in differ})
    return [
        {name: value for name, value in own.items() if told[name] != digests[0][name]}
        for own, told in zip(everywhere, digests, strict=True)
    ]


def restore_rank_buffers(model: nn.Module, checkpoint: dict[str, Any]) -> None:
    """Give this process its own buffers, if as many processes wrote the checkpoint."""
    stored = checkpoint.get(RANK_BUFFERS) or []
    if len(stored) != get_world_size():
        return
    buffers = dict(unwrapped(model).named_buffers())
    for name, value in stored[get_rank()].items():
        buffers[name].copy_(value)
