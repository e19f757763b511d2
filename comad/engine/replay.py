"""A step whose loss was not finite: what is kept of it, and ``train.py --replay`` repeating it.

The batch is not kept but read again: images and draws follow from seed, step and process.
"""

import sys
from functools import partial
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config
from mmengine.dist import get_rank
from mmengine.registry import RUNNERS
from mmengine.runner import Runner
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from backbones.checkpoints import CheckpointError, fill_completely, read_checkpoint, write_torch
from comad.engine.checkpointing import to_plain
from comad.engine.exact_data import place_batch
from comad.engine.hooks.step_seed import seed_step
from comad.engine.models import unwrapped
from comad.engine.run_config import config_digest

BUNDLE = 'bundle.pth'
INFO = ('iter', 'epoch', 'max_iters', 'max_epochs')


def save_step(
    runner: Any, folder: Path, before: dict[str, Tensor], losses: dict[str, float]
) -> str | None:
    """Write ``folder/bundle.pth``: all that computes the current step again, as plain data.

    Tensors that the forward pass has changed are given as they were, in ``before``. Returns the
    name of a tensor that was not finite before the step, if there is one.
    """
    weights = {**unwrapped(runner.model).state_dict(), **before}
    weights = {name: tensor.cpu() for name, tensor in weights.items()}
    info = runner.message_hub.runtime_info
    content = dict(
        step=runner.iter,
        rank=get_rank(),
        seed=runner.seed,
        info={key: info[key] for key in INFO if key in info},
        batch=runner.train_loop.batch_place(),
        losses=losses,
        weights=weights,
        optimizer=runner.optim_wrapper.state_dict(),
        options=getattr(runner, 'options', {}),
    )
    folder.mkdir(parents=True, exist_ok=True)
    write_torch(folder / BUNDLE, to_plain(content))
    return _first_not_finite(weights)


def replay(cfg: Config, bundle: str | Path) -> int:
    """Print every loss of the step and the first module whose output is not finite.

    Takes ``nan_step<N>/`` or its ``bundle.pth`` and the run's config, changed to one that only
    builds; returns 0 if the loss is not finite again, 1 if it is.

    Raises:
        CheckpointError: no bundle of this config.
    """
    path = Path(bundle)
    path = path / BUNDLE if path.is_dir() else path
    kept = read_checkpoint(path)
    for part in ('step', 'rank', 'seed', 'info', 'batch', 'losses', 'weights', 'options'):
        if part not in kept:
            raise CheckpointError(f'{path} is no bundle of a step: {part!r} is absent')
    if kept['batch'] is None:
        raise CheckpointError(f'{path}: a batch of cached features cannot be read again')
    other = kept['options'].get('digest') not in (None, config_digest(cfg))
    cfg.work_dir, cfg.visualizer = str(path.parent / 'replay'), dict(type='Visualizer')
    cfg.load_from, cfg.resume, cfg.launcher, cfg.log_level = None, False, 'none', 'WARNING'
    runner = (RUNNERS.get(cfg.get('runner_type', 'Runner')) or Runner).from_cfg(cfg)
    loader = runner.build_train_loop(runner._train_loop).dataloader
    model = unwrapped(runner.model)
    fill_completely(model, kept['weights'], path, finite=False)  # that is what is looked for
    for key, value in kept['info'].items():
        runner.message_hub.update_info(key, value)
    loader.dataset.rank = kept['rank']
    try:
        images = [loader.dataset[index] for index in place_batch(**kept['batch'])]
    except (IndexError, TypeError) as error:
        raise CheckpointError(f'{path}: the batch cannot be read again: {error}') from error
    found = _watch(model.train())
    seed_step(kept['seed'], kept['step'], kept['rank'])
    with runner.build_optim_wrapper(runner.optim_wrapper).optim_context(model):
        batch = model.data_preprocessor(loader.collate_fn(images), True)
        total, losses = model.parse_losses(model._run_forward(batch, mode='loss'))
    lines = ['warning: config or options are not those of the run'] if other else []
    lines.append(f'step {kept["step"]}, process {kept["rank"]}')
    for name, value in losses.items():
        then = f' (in the run: {kept["losses"][name]:.6g})' if name in kept['losses'] else ''
        lines.append(f'  {name}: {float(value.detach()):.6g}{then}')
    if name := _first_not_finite(kept['weights']):
        lines.append(f'not finite before the step: {name}')
    lines += [f'first output that is not finite: {name}' for name in found[:1]]
    finite = bool(torch.isfinite(total))
    lines.append(f'{"not " * finite}reproduced: the loss is {"" if finite else "not "}finite')
    sys.stdout.write('\n'.join([*lines, '']))
    return int(finite)


def _watch(model: nn.Module) -> list[str]:
    """Fills with the modules, in their order, whose outputs are not finite."""
    found: list[str] = []

    def look(module: nn.Module, inputs: Any, output: Any, name: str) -> None:
        if not _all_finite(output):
            given = 'finite' if _all_finite(inputs) else 'not finite either'
            found.append(f'{name} ({type(module).__name__}) (its inputs: {given})')

    for name, module in model.named_modules():
        module.register_forward_hook(partial(look, name=name or 'the losses'))
    return found


def _all_finite(value: Any) -> bool:
    numbers = (leaf for leaf in tree_leaves(value) if isinstance(leaf, Tensor))
    return all(bool(torch.isfinite(x).all()) for x in numbers if x.is_floating_point())


def _first_not_finite(weights: dict[str, Tensor]) -> str | None:
    return next((name for name, tensor in weights.items() if not _all_finite(tensor)), None)
