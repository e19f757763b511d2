"""Checkpoints that are plain, written atomically and pruned only after the new one is there.

MMEngine's own checkpoints hold HistoryBuffers and numpy objects, which a safe reader refuses, so
that a run could never be resumed on current torch.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.dist import is_main_process
from mmengine.hooks import CheckpointHook, Hook
from mmengine.logging import HistoryBuffer
from mmengine.registry import HOOKS
from mmengine.runner import CheckpointLoader

from backbones.checkpoints import CheckpointError, read_checkpoint, write_atomically

Convert = Callable[[Any], Any]


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
    if (
        value is None
        or type(value) in (bool, int, float, str, bytes)
        or isinstance(value, torch.Tensor)
    ):
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

    Args:
        max_keep_ckpts: Checkpoints kept besides nothing else; older ones are removed last.

    Raises:
        ValueError: ``save_best``, since the suite reports the last checkpoint, never the best on
            the validation set.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        if kwargs.get('save_best') is not None:
            raise ValueError('save_best: the suite reports the last checkpoint, never the best one')
        super().__init__(*args, **kwargs)

    def _save_checkpoint_with_step(self, runner: Any, step: int, meta: dict[str, Any]) -> None:
        name = self.filename_tmpl.format(step)
        self.last_ckpt = str(Path(self.out_dir) / name)
        kept = [*runner.message_hub.runtime_info.get('keep_ckpt_ids', [])]
        kept = [other for other in kept if other != step] + [step]
        surplus = kept[: -self.max_keep_ckpts] if self.max_keep_ckpts > 0 else []
        runner.message_hub.update_info('keep_ckpt_ids', kept[len(surplus) :])
        runner.message_hub.update_info('last_ckpt', self.last_ckpt)
        runner.save_checkpoint(
            self.out_dir,
            name,
            save_optimizer=self.save_optimizer,
            save_param_scheduler=self.save_param_scheduler,
            meta=meta,
            by_epoch=self.by_epoch,
        )
        if not is_main_process():
            return
        pointer = Path(runner.work_dir) / 'last_checkpoint'
        write_atomically(pointer, lambda temporary: temporary.write_text(self.last_ckpt))
        for old in surplus:
            (Path(self.out_dir) / self.filename_tmpl.format(old)).unlink(missing_ok=True)

    def before_train(self, runner: Any) -> None:
        """Without the parent's pruning, which happens before anything new has been written."""
        keep, self.max_keep_ckpts = self.max_keep_ckpts, -1
        super().before_train(runner)
        self.max_keep_ckpts = keep


def last_checkpoint(work_dir: str | Path) -> Path | None:
    """The checkpoint that ``last_checkpoint`` points to, None if the run has none.

    Raises:
        CheckpointError: the pointer names a file that is not there.
    """
    pointer = Path(work_dir) / 'last_checkpoint'
    if not pointer.is_file():
        return None
    # The run's folder may have been moved since: the name counts, not the folder written then.
    named = Path(pointer.read_bytes().decode(errors='replace').strip().replace('\0', '?')).name
    if not named:
        raise CheckpointError(f'{pointer} names no checkpoint')
    path = pointer.with_name(named)
    if not path.is_file():
        raise CheckpointError(f'{pointer} points to {path.name}, which is not there')
    return path
