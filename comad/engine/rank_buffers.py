"""Buffers that differ between processes, such as batch statistics, in the one checkpoint.

The main process writes it; without this the others would resume with its statistics, and
validation on several processes or their average at an epoch's end would differ.
"""

from typing import Any

import torch
from mmengine.dist import all_gather_object, get_rank, get_world_size
from torch import Tensor, nn

from comad.engine.unwrapping import unwrapped

KEY = 'rank_buffers'


def local_buffers(model: nn.Module) -> dict[str, Tensor]:
    """Floating-point buffers of this process that its checkpoints hold, on the CPU."""
    module = unwrapped(model)
    held = module.state_dict()
    return {
        name: buffer.detach().cpu().clone()
        for name, buffer in module.named_buffers()
        if name in held and buffer.is_floating_point()
    }


def gather_rank_buffers(model: nn.Module) -> list[dict[str, Tensor]]:
    """Per process the buffers that are not the main process's; empty for one process.

    A collective: every process has to call it.
    """
    if get_world_size() == 1:
        return []
    everywhere = all_gather_object(local_buffers(model))
    return [
        {name: value for name, value in held.items() if not torch.equal(value, everywhere[0][name])}
        for held in everywhere
    ]


def restore_rank_buffers(model: nn.Module, checkpoint: dict[str, Any]) -> None:
    """Give this process its own buffers, if as many processes wrote the checkpoint."""
    stored = checkpoint.get(KEY) or []
    if len(stored) != get_world_size():
        return
    buffers = dict(unwrapped(model).named_buffers())
    for name, value in stored[get_rank()].items():
        buffers[name].copy_(value)
