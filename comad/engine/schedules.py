"""Counts of iterations in a config, and gradient accumulation that keeps the recipe.

Nothing here imports torch.
"""

from typing import Any


def scale_schedule(entry: dict[str, Any], factor: float) -> dict[str, Any]:
    """A copy of a scheduler's config with all iteration counts multiplied by ``factor``."""
    if entry.get('by_epoch', True):
        return dict(entry)
    scaled = dict(entry)
    for key in ('begin', 'end', 'T_max', 'milestones'):
        if scaled.get(key) is not None:
            value = scaled[key]
            scaled[key] = (
                [round(one * factor) for one in value]
                if isinstance(value, (list, tuple))
                else round(value * factor)
            )
    return scaled


def accumulate(cfg: Any, steps: int) -> None:
    """Make ``steps`` batches one optimizer step and keep the number of optimizer steps.

    MMEngine counts batches, so everything that counts iterations is multiplied; epochs stay.

    Raises:
        ValueError: a number below 1, nothing to train, or a config that accumulates already.
    """
    if steps < 1:
        raise ValueError(f'--accumulate {steps}: expected a number of batches, at least 1')
    if 'optim_wrapper' not in cfg:
        raise ValueError('--accumulate: this config trains nothing')
    if cfg.optim_wrapper.get('accumulative_counts', 1) != 1:
        raise ValueError('--accumulate: optim_wrapper.accumulative_counts is set already')
    cfg.optim_wrapper.accumulative_counts = steps
    if 'max_iters' not in cfg.train_cfg:
        return
    for key in ('max_iters', 'val_interval', 'val_begin'):
        if key in cfg.train_cfg:
            cfg.train_cfg[key] *= steps
    checkpoint = cfg.get('default_hooks', {}).get('checkpoint', {})
    if not checkpoint.get('by_epoch', True):
        checkpoint.interval *= steps
    cfg.param_scheduler = [scale_schedule(entry, steps) for entry in cfg.param_scheduler]
