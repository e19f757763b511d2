"""Counts of iterations in a config, what they must satisfy, and gradient accumulation.

Nothing here imports torch.
"""

from typing import Any

from comad.tasks.protocol import scale_schedule

# Lengths of a training, whole numbers.
LENGTHS = ('max_epochs', 'max_iters', 'val_interval')


def accumulate(cfg: Any, steps: int) -> None:
    """Make ``steps`` batches one optimizer step and keep the number of optimizer steps.

    MMEngine counts batches, so everything that counts iterations is multiplied; epochs stay.

    Raises:
        ValueError: a number below 1, nothing to train, or a config that accumulates already.
    """
    if steps == 1:
        return
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


def check_schedule(cfg: Any) -> None:
    """Every part of the learning rate's schedule has to begin before it ends, a warm-up to end.

    A part without an end lasts as long as the training, so a shortened training may leave none of
    it, which MMEngine meets with an assertion.

    Raises:
        ValueError: names the part, when it would begin or end and the length of the training; or
            a length that is no number, or validations that are no time apart.
    """
    length = cfg.get('train_cfg') or {}
    for key in LENGTHS:
        if key in length and (isinstance(length[key], bool) or not isinstance(length[key], int)):
            raise ValueError(f'train_cfg.{key}={length[key]!r}: expected a whole number')
    if (interval := length.get('val_interval', 1)) < 1:
        raise ValueError(f'train_cfg.val_interval={interval}: expected 1 or more')
    parts = cfg.get('param_scheduler') or []
    for part in parts if isinstance(parts, (list, tuple)) else [parts]:
        by_epoch = part.get('by_epoch', True)
        key, unit = ('max_epochs', 'epoch') if by_epoch else ('max_iters', 'iteration')
        begin, end = part.get('begin', 0), part.get('end')
        if part.get('type') == 'WarmUpLR' and key in length and end >= length[key]:
            raise ValueError(
                f'train_cfg.{key}={length[key]} leaves no {unit} after WarmUpLR, which '
                f'param_scheduler ends at {end}; expected more than {end}, or a shorter warm-up'
            )
        if end is None:
            end = length.get(key)
        if end is None or begin < end:
            continue
        raise ValueError(
            f'train_cfg.{key}={length.get(key)} leaves no {unit} for {part.get("type")}, which '
            f'param_scheduler begins at {begin}; expected more than {begin}, or a shorter warm-up'
        )
