"""One CoMAD step on the share of the batch that this process gets.

torchrun -m tests.methods.two_processes FOLDER reads FOLDER/given.pt, a list of cases, and leaves
FOLDER/found.pt: per case the losses and the gradients, both averaged over the processes.
"""

import os
import sys
from pathlib import Path

import torch
import torch.distributed as dist
from mmengine.registry import MODELS

import comad.methods  # noqa: F401
from comad.methods.parts.masking import Masks


def step(case: dict, rank: int = 0, world: int = 1) -> dict:
    """Losses and gradients of a case; two backward passes, since DDP complains at the second."""
    model = MODELS.build(case['config'])
    model.load_state_dict(case['state'])
    model.train()
    mine = slice(rank * len(case['images']) // world, (rank + 1) * len(case['images']) // world)
    masks = Masks(case['student'][mine], tuple(keep[mine] for keep in case['teachers']))
    model.draw_masks = lambda images: masks
    network = torch.nn.parallel.DistributedDataParallel(model) if world > 1 else model
    for _ in range(2):
        network.zero_grad()
        losses = network(case['images'][mine])
        sum(value for name, value in losses.items() if 'loss' in name).backward()
    found = {name: x.detach().clone() for name, x in losses.items() if 'loss' in name}
    if world > 1:
        for value in found.values():
            dist.all_reduce(value)
            value /= world
    gradients = {n: p.grad for n, p in model.named_parameters() if p.grad is not None}
    return dict(losses=found, gradients=gradients)


if __name__ == '__main__':
    folder = Path(sys.argv[1])
    dist.init_process_group('gloo')
    cases = torch.load(folder / 'given.pt')
    results = [step(case, dist.get_rank(), dist.get_world_size()) for case in cases]
    if dist.get_rank() == 0:
        torch.save(results, folder / 'found.pt')
    dist.destroy_process_group()
    os._exit(0)
