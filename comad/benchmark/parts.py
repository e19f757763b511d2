"""Where the time of a step goes: teachers, student, decoder, heads, losses, backward, optimizer."""

import inspect
from collections.abc import Iterator
from typing import Any

import torch
from torch import nn

from backbones.contract import TokenNetwork
from backbones.frozen import Frozen
from comad.benchmark.timing import PartClock
from comad.benchmark.workload import Workload

# How a network or a head is called by those that hold it.
CALLS = ('tokens', 'embed', 'run', 'stages', 'tail', 'forward', 'loss', 'loss_and_predict')


def watch_parts(
    workload: Workload, device: torch.device, steps: int, compiled: bool = False
) -> dict[str, float]:
    """Milliseconds per part of a step, the mean of ``steps`` steps; parts do not overlap.

    What is ``compiled`` is compiled anew for the watched calls, in a step before.

    What the forward pass does outside of named parts is the part 'losses and rest': masks, gate,
    targets and losses.
    """
    clock = PartClock(device)
    names: dict[str, None] = {}  # in order
    for name, module in _parts(workload.model):
        for call in CALLS:
            # A teacher's last stage alone is where another network's features go through.
            part = f'{name}, tail' if call == 'tail' and isinstance(module, Frozen) else name
            names[part] = None
            if inspect.ismethod(getattr(module, call, None)):
                clock.watch(module, call, part)
    clock.watch(workload.model.data_preprocessor, 'forward', 'data')
    clock.watch(workload.model, '_run_forward', 'forward')
    clock.watch(workload.wrapper, 'backward', 'backward')
    clock.watch(workload.wrapper, 'step', 'optimizer')
    if compiled:
        workload.step()
        clock.totals()
    for _ in range(steps):
        workload.step()
    seconds = clock.totals()
    inside = sum(seconds.get(name, 0.0) for name in names)
    seconds['losses and rest'] = seconds['forward'] - inside
    order = ['data', *names, 'losses and rest', 'backward', 'optimizer']
    return {name: 1000 * seconds[name] / steps for name in order if name in seconds}


def _parts(model: Any) -> Iterator[tuple[str, nn.Module]]:
    """Networks and heads with the names that people know them by."""
    labels = {}
    names = getattr(model, 'teacher_names', None)
    frozen = [m for m in model.modules() if isinstance(m, Frozen)]
    for k, teacher in enumerate(frozen):
        labels[teacher] = f'teacher {names[k] if names else teacher.card["family"]}'
    for module, label in labels.items():
        yield label, module
    for name, child in model.named_children():
        if name == 'data_preprocessor' or any(module in labels for module in child.modules()):
            continue
        makes_student = isinstance(child, TokenNetwork) or hasattr(model, 'exported')
        label = 'student' if name == 'backbone' and makes_student else name
        if next(child.parameters(), None) is not None:
            yield label, child
