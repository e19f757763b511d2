"""``train.py --replay``: compute the loss of a saved step again and find where it breaks."""

import sys
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config
from mmengine.registry import RUNNERS
from mmengine.runner import Runner
from torch import Tensor, nn

from backbones.checkpoints import CheckpointError, fill_completely, read_checkpoint
from comad.engine.bundles import decode, restore_generators
from comad.engine.hooks.loss_check import BUNDLE
from comad.engine.hooks.prepare import unwrapped
from comad.engine.options import ConfigError, RunOptions
from comad.engine.run_config import config_digest, load_run_config

REPRODUCED, NOT_REPRODUCED = 0, 1


def replay(options: RunOptions, bundle: str | Path) -> int:
    """Print every loss of the saved batch and the first module whose output is not finite.

    Args:
        options: Those of the run that saved the bundle.
        bundle: ``nan_step<N>/`` or its ``bundle.pth``.

    Returns:
        0 if the loss is not finite again, 1 if it is.

    Raises:
        ConfigError, CheckpointError: no bundle of this config.
    """
    path = Path(bundle)
    path = path / BUNDLE if path.is_dir() else path
    content = read_checkpoint(path)
    missing = {'step', 'batch', 'weights', 'generators', 'info', 'losses', 'options'} - set(content)
    if missing:
        raise CheckpointError(f'{path} is no bundle of a step: {sorted(missing)[0]!r} is absent')
    if content['batch'] is None:
        raise CheckpointError(f'{path} holds no batch: its kind of data cannot be replayed')
    cfg = load_run_config(options, check=False)
    if content['options'].get('digest') not in (None, config_digest(cfg)):
        _say('warning: config or options are not those of the run that saved this step')
    runner = _runner(cfg, path.parent / 'replay')
    model = unwrapped(runner.model)
    fill_completely(model, content['weights'], path)
    for key, value in content['info'].items():
        runner.message_hub.update_info(key, value)
    try:
        batch = decode(content['batch'], next(model.parameters()).device)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise CheckpointError(f'{path}: the batch cannot be rebuilt: {error}') from error
    model.train()
    found = FirstNonFinite(model)
    restore_generators(content['generators'])
    with runner.build_optim_wrapper(runner.optim_wrapper).optim_context(model):
        losses = model._run_forward(batch, mode='loss')
    total, values = model.parse_losses(losses)
    return _report(content, values, found, bool(torch.isfinite(total)))


def _runner(cfg: Config, work_dir: Path) -> Any:
    """A runner of this config that has only built its model."""
    import comad.engine.register  # noqa: F401

    cfg.work_dir, cfg.visualizer = str(work_dir), dict(type='Visualizer')
    cfg.load_from, cfg.resume, cfg.launcher = None, False, 'none'
    cfg.log_level = 'WARNING'
    if cfg.get('optim_wrapper') is None:
        raise ConfigError('--replay: this config has no training')
    if cfg.optim_wrapper.get('type') == 'AmpOptimWrapper' and not torch.cuda.is_available():
        _say('warning: no accelerator here, the step is computed in bfloat16, not with float16')
        cfg.optim_wrapper.type = 'AutocastOptimWrapper'
        cfg.optim_wrapper.pop('dtype', None)
        cfg.optim_wrapper.pop('loss_scale', None)
    return (RUNNERS.get(cfg.get('runner_type', 'Runner')) or Runner).from_cfg(cfg)


def _report(content: dict[str, Any], values: dict[str, Tensor], found: Any, finite: bool) -> int:
    _say(f'step {content["step"]}, process {content["rank"]}')
    for name, value in values.items():
        saved = content['losses'].get(name)
        _say(
            f'  {name}: {float(value.detach()):.6g}'
            + (f' (in the run: {saved:.6g})' if saved else '')
        )
    for name, tensor in content['weights'].items():
        if tensor.is_floating_point() and not torch.isfinite(tensor).all():
            _say(f'not finite before the step: {name}')
            break
    if found.name is not None:
        inputs = 'finite' if found.inputs_finite else 'not finite either'
        _say(f'first output that is not finite: {found.name} (its inputs: {inputs})')
    _say('not reproduced: the loss is finite' if finite else 'reproduced: the loss is not finite')
    return NOT_REPRODUCED if finite else REPRODUCED


class FirstNonFinite:
    """Watches a model's modules for the first output that is NaN or infinite.

    Attributes:
        name: of the module, with its class; None as long as all is finite.
        inputs_finite: whether what it got was.
    """

    def __init__(self, model: nn.Module) -> None:
        self.name: str | None = None
        self.inputs_finite = True
        for name, module in model.named_modules():
            label = f'{name or "the losses"} ({type(module).__name__})'
            module.register_forward_hook(self._hook(label))

    def _hook(self, label: str) -> Any:
        def hook(module: nn.Module, inputs: Any, output: Any) -> None:
            if self.name is None and not all_finite(output):
                self.name, self.inputs_finite = label, all_finite(inputs)

        return hook


def all_finite(value: Any) -> bool:
    """Whether every floating-point tensor in nested containers is finite."""
    if isinstance(value, Tensor):
        return not value.is_floating_point() or bool(torch.isfinite(value).all())
    if isinstance(value, dict):
        value = value.values()
    elif not isinstance(value, (list, tuple)):
        return True
    return all(all_finite(item) for item in value)


def _say(line: str) -> None:
    sys.stdout.write(line + '\n')
