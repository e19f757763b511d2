"""MMEngine's RuntimeInfoHook without one wait for the device per loss and step."""

from typing import Any

import torch
from mmengine.hooks import LoggerHook, RuntimeInfoHook
from mmengine.registry import HOOKS
from torch import Tensor

# So many steps are kept at most, should nothing ask for them.
MOST = 500


@HOOKS.register_module()
class DeferredInfoHook(RuntimeInfoHook):
    """Keeps the losses of a step, and the norm of its gradients, on their device until somebody
    reads the message hub.

    MMEngine's hook reads each of them after every step, and each time the host waits for the
    device. Here the losses of a step become one tensor, and all steps since the last reading reach
    the hub in one transfer per device: when a line is logged, before a checkpoint is written, and
    at the end. The hub's content is then the same number by number.
    """

    def before_train(self, runner: Any) -> None:
        super().before_train(runner)
        self.pending: list[tuple[list[str], Tensor]] = []

    def after_train_iter(
        self, runner: Any, batch_idx: int, data_batch: Any = None, outputs: Any = None
    ) -> None:
        devices: dict[torch.device, dict[str, Tensor]] = {}
        norms = getattr(runner.optim_wrapper, 'take_norm', dict)()
        for name, value in {**norms, **(outputs or {})}.items():
            if isinstance(value, Tensor) and value.is_floating_point():
                devices.setdefault(value.device, {})[name] = value.detach().reshape(())
            else:
                runner.message_hub.update_scalar(f'train/{name}', value)
        # Stacking copies, so that nothing changes what is kept, and promotes without rounding.
        for values in devices.values():
            self.pending.append((list(values), torch.stack(list(values.values()))))
        if len(self.pending) >= MOST or logs_now(runner, batch_idx):
            self.flush(runner)

    def after_train(self, runner: Any) -> None:
        self.flush(runner)
        super().after_train(runner)

    def flush(self, runner: Any) -> None:
        """Bring what is pending to the message hub."""
        kept, self.pending = getattr(self, 'pending', []), []
        on_host: dict[int, list[float]] = {}
        for key in {(rows.device, rows.dtype) for _, rows in kept}:
            chosen = [i for i, (_, rows) in enumerate(kept) if (rows.device, rows.dtype) == key]
            values = torch.cat([kept[i][1] for i in chosen]).tolist()
            for i in chosen:
                size = len(kept[i][0])
                on_host[i], values = values[:size], values[size:]
        for i, (names, _) in enumerate(kept):
            for name, value in zip(names, on_host[i], strict=True):
                runner.message_hub.update_scalar(f'train/{name}', value)


def logs_now(runner: Any, batch_idx: int) -> bool:
    """Whether a LoggerHook writes a line after this training step."""
    for hook in runner.hooks:
        if not isinstance(hook, LoggerHook):
            continue
        loader = runner.train_dataloader
        at_end = hook.end_of_epoch(loader, batch_idx)
        if hook.every_n_inner_iters(batch_idx, hook.interval) or (
            at_end and (not hook.ignore_last or len(loader) <= hook.interval)
        ):
            return True
    return False


def flush_losses(runner: Any) -> None:
    """Make the message hub complete, before it is saved."""
    for hook in runner.hooks:
        if isinstance(hook, DeferredInfoHook):
            hook.flush(runner)
