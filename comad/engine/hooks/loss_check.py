"""A loss that is not finite: the run stops before the step and leaves what replays it."""

from pathlib import Path
from typing import Any

import torch
import torch.distributed
from mmengine.dist import all_gather_object, barrier, get_rank, is_distributed
from mmengine.hooks import Hook
from mmengine.optim import AmpOptimWrapper, OptimWrapper
from mmengine.registry import HOOKS
from torch import Tensor

from backbones.frozen import Frozen
from comad.engine.failures import RunStopped
from comad.engine.models import unwrapped
from comad.engine.options import command_of
from comad.engine.replay import save_step

MAX_SHOWN = 3


@HOOKS.register_module()
class LossCheckHook(Hook):
    """Stops at a loss that is NaN or infinite, on every process, before the weights change.

    The device never waits for the host. A fused optimizer on a GPU is given the flag, as a gradient
    scaler would, and leaves all as it is by itself; the host looks at the flag after everything
    else of the step has been asked for. Other optimizers wait for it: it travels to the host while
    the backward pass is being computed. Per step that costs the copy of one byte and of the tensors
    without gradients that steps change (batch norm's statistics, MoCo v3's key encoder); with
    several processes an all-reduce of one number.

    What is left in ``nan_step<N>/`` of the work dir: see `comad.engine.replay`.

    Raises:
        RunStopped: naming the losses and the command that replays the step.
    """

    priority = 'VERY_LOW'

    def before_run(self, runner: Any) -> None:
        """Look at the teachers, whose file would else not be named as the cause of all."""
        model = unwrapped(runner.model)
        teachers = [module for module in model.modules() if isinstance(module, Frozen)]
        cards = getattr(model, 'teacher_cards', [])
        for number, teacher in enumerate(teachers):
            bad = [n for n, x in _tensors(teacher).items() if not bool(torch.isfinite(x).all())]
            if bad:
                known = cards[number].get('file') if len(cards) == len(teachers) else None
                raise ValueError(
                    f'teacher {known or number}: {bad[0]} is not finite, {len(bad)} tensors in '
                    'all; fetch the file again'
                )

    def before_train(self, runner: Any) -> None:
        model = unwrapped(runner.model)
        teachers = [module for module in model.modules() if isinstance(module, Frozen)]
        frozen = {id(tensor) for teacher in teachers for tensor in _tensors(teacher).values()}
        saved = model.state_dict().keys()
        self.others = {
            name: tensor
            for name, tensor in _tensors(model).items()
            if name in saved and id(tensor) not in frozen and not tensor.requires_grad
        }
        self.changing = set(self.others)
        self.always = {name for name, _ in model.named_buffers()} & self.changing
        self.first = True
        self.before: dict[str, Tensor] = {}
        self.losses: dict[str, Tensor] = {}
        self.flag: Flag | None = None
        self._watch(runner, model)

    def before_train_iter(self, runner: Any, batch_idx: int, data_batch: Any = None) -> None:
        """Keep what the forward pass changes."""
        # In the first step all of them; then buffers, and parameters whose version has ever moved
        # (batch norm changes its statistics without a trace there).
        self.before = {name: self.others[name].detach().clone() for name in self.changing}
        self.versions = {name: tensor._version for name, tensor in self.others.items()}

    def after_train_iter(
        self, runner: Any, batch_idx: int, data_batch: Any = None, outputs: Any = None
    ) -> None:
        moved = {n for n, tensor in self.others.items() if tensor._version != self.versions[n]}
        self.changing = moved | (self.always if self.first else self.changing)
        self.first = False
        flag, self.flag = self.flag, None
        if flag is not None and flag.wait():
            self._stop(runner)
        self.losses = {}

    def _watch(self, runner: Any, model: Any) -> None:
        wrapper, parse = runner.optim_wrapper, model.parse_losses
        if not isinstance(wrapper, OptimWrapper):
            raise TypeError(f'LossCheckHook knows one OptimWrapper, not {type(wrapper).__name__}')
        backward = wrapper.backward

        def parse_losses(losses: dict[str, Any]) -> Any:
            total, self.losses = parse(losses)
            return total, self.losses

        gates = skips_by_itself(wrapper)

        def checked_backward(loss: Tensor, **options: Any) -> None:
            flag = Flag(loss)
            backward(loss, **options)
            if gates:
                wrapper.optimizer.found_inf = flag.here.float()
                self.flag = flag
            elif flag.wait():
                self._stop(runner)

        model.parse_losses, wrapper.backward = parse_losses, checked_backward

    def after_train(self, runner: Any) -> None:
        """Nothing of this may stay behind: a test at the end has no step to check."""
        unwrapped(runner.model).__dict__.pop('parse_losses', None)
        runner.optim_wrapper.__dict__.pop('backward', None)
        runner.optim_wrapper.optimizer.__dict__.pop('found_inf', None)

    def _stop(self, runner: Any) -> None:
        values = {
            name: float(value.detach()) for name, value in self.losses.items() if value.numel() == 1
        }
        bad = {k: v for k, v in values.items() if not torch.isfinite(torch.tensor(v))}
        everyone = all_gather_object((get_rank(), bad))
        rank, bad = next((pair for pair in everyone if pair[1]), everyone[0])
        folder = Path(runner.work_dir) / f'nan_step{runner.iter}'
        command = f'{command_of(getattr(runner, "options", {}))} --replay {folder}'
        saves = get_rank() == rank
        broken = save_step(runner, folder, self.before, values) if saves else None
        broken = all_gather_object(broken)[rank]
        note = f'; {broken} was not finite before the step' if broken else ''
        barrier()  # the first process to end takes the others with it
        shown = ', '.join(f'{name} {value}' for name, value in list(bad.items())[:MAX_SHOWN])
        place = f' on process {rank}' if is_distributed() else ''
        raise RunStopped(
            f'step {runner.iter}: the loss is not finite{place} ({shown}){note}; '
            f'see where it comes from: {command}',
            agreed=True,
        )


def skips_by_itself(wrapper: OptimWrapper) -> bool:
    """Whether the optimizer, told by a number on its device, changes nothing: fused ones do.

    On a CPU nothing is gained: the number is there at once.
    """
    scales = isinstance(wrapper, AmpOptimWrapper)  # its scaler tells the optimizer
    device = wrapper.optimizer.param_groups[0]['params'][0].device
    able = getattr(wrapper.optimizer, '_step_supports_amp_scaling', False)
    return able and not scales and device.type == 'cuda'


class Flag:
    """Whether a loss is not finite anywhere, on its device at once and on the host later.

    Attributes:
        here: () uint8 on the loss's device.
    """

    def __init__(self, loss: Tensor) -> None:
        self.here = (~torch.isfinite(loss.detach())).any().to(torch.uint8)
        if is_distributed():
            torch.distributed.all_reduce(self.here, torch.distributed.ReduceOp.MAX)
        if self.here.is_cuda:
            self.host = torch.empty((), dtype=torch.uint8, pin_memory=True)
            self.host.copy_(self.here, non_blocking=True)
            self.arrived = torch.cuda.Event()
            self.arrived.record()

    def wait(self) -> bool:
        """What it says, once it has come to the host."""
        if not self.here.is_cuda:
            return bool(self.here)
        self.arrived.synchronize()
        return bool(self.host)


def _tensors(module: torch.nn.Module) -> dict[str, Tensor]:
    return {**dict(module.named_parameters()), **dict(module.named_buffers())}
