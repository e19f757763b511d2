"""A loss that is not finite: the run stops before the step and leaves what replays it."""

import shutil
from pathlib import Path
from typing import Any

import torch
import torch.distributed
from mmengine.dist import all_gather_object, barrier, get_rank, is_distributed
from mmengine.hooks import Hook
from mmengine.optim import OptimWrapper
from mmengine.registry import HOOKS
from torch import Tensor

from backbones.checkpoints import write_torch
from backbones.files import write_json
from backbones.frozen import Frozen
from comad.engine.bundles import encode, generator_states, plain_states
from comad.engine.checkpointing import to_plain
from comad.engine.failures import RunStopped
from comad.engine.hooks.prepare import unwrapped
from comad.engine.options import command_of

BUNDLE = 'bundle.pth'
REPORT = 'report.json'
MAX_SHOWN = 3


@HOOKS.register_module()
class LossCheckHook(Hook):
    """Stops at a loss that is NaN or infinite, on every process, before the weights change.

    The flag travels to the host while the backward pass is being computed and is looked at before
    the optimizer's step, so that the device never waits for the host. Per step that costs the
    copy of one byte, of the generator states (5 KB) and of the tensors without gradients that
    steps change (batch norm's statistics, MoCo v3's key encoder); with several processes an
    all-reduce of one number.

    What is left in ``nan_step<N>/`` of the work dir: the batch as the model got it, weights and
    optimizer before the step, generator states, the command's options, all of them plain data.

    Raises:
        RunStopped: naming the losses and the command that replays the step.
    """

    priority = 'VERY_LOW'

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
        self.batch: Any = None
        self.losses: dict[str, Tensor] = {}
        self._watch(runner, model)

    def before_train_iter(self, runner: Any, batch_idx: int, data_batch: Any = None) -> None:
        """Keep what the forward pass changes; the preprocessor's output follows."""
        # In the first step all of them; then buffers, and parameters whose version has ever moved
        # (batch norm changes its statistics without a trace there).
        self.before = {name: self.others[name].detach().clone() for name in self.changing}
        self.versions = {name: tensor._version for name, tensor in self.others.items()}
        self.batch, self.states = data_batch, generator_states()

    def after_train_iter(
        self, runner: Any, batch_idx: int, data_batch: Any = None, outputs: Any = None
    ) -> None:
        moved = {n for n, tensor in self.others.items() if tensor._version != self.versions[n]}
        self.changing = moved | (self.always if self.first else self.changing)
        self.first = False
        self.batch, self.losses = None, {}

    def _watch(self, runner: Any, model: Any) -> None:
        wrapper, parse = runner.optim_wrapper, model.parse_losses
        if not isinstance(wrapper, OptimWrapper):
            raise TypeError(f'LossCheckHook knows one OptimWrapper, not {type(wrapper).__name__}')
        backward = wrapper.backward

        def preprocessed(module: Any, inputs: Any, batch: Any) -> None:
            if module.training:
                self.batch, self.states = batch, generator_states()

        def parse_losses(losses: dict[str, Any]) -> Any:
            total, self.losses = parse(losses)
            return total, self.losses

        def checked_backward(loss: Tensor, **options: Any) -> None:
            flag = _start_check(loss)
            backward(loss, **options)
            if flag():
                self._stop(runner)

        self.handle = model.data_preprocessor.register_forward_hook(preprocessed)
        model.parse_losses, wrapper.backward = parse_losses, checked_backward

    def after_train(self, runner: Any) -> None:
        """Nothing of this may stay behind: a test at the end has no step to check."""
        self.handle.remove()
        unwrapped(runner.model).__dict__.pop('parse_losses', None)
        runner.optim_wrapper.__dict__.pop('backward', None)

    def _stop(self, runner: Any) -> None:
        values = {
            name: float(value.detach()) for name, value in self.losses.items() if value.numel() == 1
        }
        bad = {k: v for k, v in values.items() if not torch.isfinite(torch.tensor(v))}
        everyone = all_gather_object((get_rank(), bad))
        rank, bad = next((pair for pair in everyone if pair[1]), everyone[0])
        folder = Path(runner.work_dir) / f'nan_step{runner.iter}'
        options = getattr(runner, 'options', {})
        command = f'{command_of(options)} --replay {folder}'
        note = ''
        if get_rank() == rank:
            note = self._save(runner, folder, values, command)
        note = all_gather_object(note)[rank]
        barrier()  # the first process to end takes the others with it
        shown = ', '.join(f'{name} {value}' for name, value in list(bad.items())[:MAX_SHOWN])
        place = f' on process {rank}' if is_distributed() else ''
        raise RunStopped(
            f'step {runner.iter}: the loss is not finite{place} ({shown}){note}; '
            f'see where it comes from: {command}',
            agreed=True,
        )

    def _save(self, runner: Any, folder: Path, values: dict[str, float], command: str) -> str:
        """Write the bundle; what to say about it."""
        model = unwrapped(runner.model)
        weights = {name: tensor.detach().cpu() for name, tensor in model.state_dict().items()}
        weights |= {name: buffer.cpu() for name, buffer in self.before.items()}
        poisoned = [
            name
            for name, tensor in weights.items()
            if tensor.is_floating_point() and not torch.isfinite(tensor).all()
        ]
        note = f'; {poisoned[0]} was not finite before the step' if poisoned else ''
        try:
            batch = encode(self.batch)
        except TypeError as error:
            batch, note = None, f'{note}; the batch is not saved ({error})'
        content = dict(
            step=runner.iter,
            epoch=runner.epoch,
            rank=get_rank(),
            seed=encode(runner.seed),
            info={
                key: encode(value)
                for key, value in runner.message_hub.runtime_info.items()
                if key in ('iter', 'epoch', 'max_iters', 'max_epochs')
            },
            batch=batch,
            losses=values,
            generators=encode(plain_states(self.states)),
            weights=weights,
            optimizer=_on_cpu(runner.optim_wrapper.state_dict()),
            options=to_plain(getattr(runner, 'options', {})),
        )
        partial = folder.with_name(f'.{folder.name}.tmp')
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        write_torch(partial / BUNDLE, content)
        shown = {name: str(value) for name, value in values.items()}  # JSON knows no NaN
        report = dict(step=runner.iter, rank=get_rank(), losses=shown, command=command)
        write_json(partial / REPORT, {**report, 'note': note.strip('; ')})
        shutil.rmtree(folder, ignore_errors=True)
        partial.rename(folder)
        return note


def _start_check(loss: Tensor) -> Any:
    """Begin to find out whether the loss is finite everywhere; a function that waits for it."""
    flag = (~torch.isfinite(loss.detach())).any().to(torch.uint8)
    if is_distributed():
        torch.distributed.all_reduce(flag, torch.distributed.ReduceOp.MAX)
    if not flag.is_cuda:
        return lambda: bool(flag)
    host = torch.empty((), dtype=torch.uint8, pin_memory=True)
    host.copy_(flag, non_blocking=True)
    arrived = torch.cuda.Event()
    arrived.record()

    def wait() -> bool:
        arrived.synchronize()
        return bool(host)

    return wait


def _tensors(module: torch.nn.Module) -> dict[str, Tensor]:
    return {**dict(module.named_parameters()), **dict(module.named_buffers())}


def _on_cpu(value: Any) -> Any:
    if isinstance(value, Tensor):
        return value.detach().cpu()
    if isinstance(value, dict):
        return {key: _on_cpu(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_on_cpu(item) for item in value]
    return value if value is None or isinstance(value, (bool, int, float, str)) else repr(value)
