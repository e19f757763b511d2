"""Learning rates of a resumed training whose schedule is another one than its checkpoint's."""

import copy
import warnings
from typing import Any

from mmengine.optim import ReduceOnPlateauParamScheduler

from backbones import CheckpointError

INITIAL = 'initial_'


def groups_of(runner: Any) -> list[dict[str, Any]]:
    """The parameter groups of all optimizers."""
    groups = runner.optim_wrapper.param_groups
    if isinstance(groups, dict):  # of several optimizers
        return [group for of_optimizer in groups.values() for group in of_optimizer]
    return groups


def base_rates(runner: Any) -> list[dict[str, Any]]:
    """Options of all parameter groups as they are built, before any schedule changes them."""
    rates = []
    for group in groups_of(runner):
        options = {key: value for key, value in group.items() if key != 'params'}
        # A schedule keeps the value that it found beside the one that it has set.
        for key in [key for key in options if key.startswith(INITIAL)]:
            options[key.removeprefix(INITIAL)] = options.pop(key)
        rates.append(options)
    return rates


def current_rates(runner: Any) -> list[dict[str, Any]]:
    """Options of all parameter groups for the next step."""
    return [
        {key: value for key, value in group.items() if key != 'params'}
        for group in groups_of(runner)
    ]


def restart_schedule(runner: Any, rates: list[dict[str, Any]]) -> None:
    """Give a runner the schedules of its config, at its step, as if they had led until there.

    Args:
        runner: After its checkpoint has been loaded.
        rates: What `base_rates` gave before.

    Raises:
        CheckpointError: A schedule that follows the metrics, which are in the past.
    """
    for group, options in zip(groups_of(runner), rates, strict=True):
        for key in [key for key in group if key.startswith(INITIAL)]:
            del group[key]
        group.update(options)
    described = copy.deepcopy(runner.cfg.get('param_scheduler'))
    if described is None:
        return
    runner.param_schedulers = runner.build_param_scheduler(described)
    schedulers = runner.param_schedulers
    if isinstance(schedulers, dict):
        schedulers = [one for of_optimizer in schedulers.values() for one in of_optimizer]
    if any(isinstance(one, ReduceOnPlateauParamScheduler) for one in schedulers):
        raise CheckpointError('ReduceOnPlateau follows metrics: its rates cannot be found again')
    runner.logger.info(f'learning rates of the new schedule at step {runner.iter}')
    by_step = [one for one in schedulers if not one.by_epoch]
    by_epoch = [one for one in schedulers if one.by_epoch]
    length = len(runner.train_dataloader)
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')  # that the optimizer has not stepped meanwhile
        for step in range(1, runner.iter + 1):
            for one in by_step:
                one.step()
            if by_epoch and step % length == 0 and step // length <= runner.epoch:
                for one in by_epoch:
                    one.step()
