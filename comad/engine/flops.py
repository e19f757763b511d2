"""Counting what one image costs in training."""

from typing import Any

import torch
from mmengine.dataset import pseudo_collate
from mmengine.model import BaseModel
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from comad.engine.models import eagerly, unwrapped

IMAGES = 2  # batch norms in projection heads need more than one


def training_gflop_per_image(runner: Any) -> float:
    """GFLOP (2 per multiply-add) of one image's forward and backward, teachers included.

    Counted on real images from the operators that run; the optimizer is left out. The model's
    state is put back afterwards, and so are its gradients (none).
    """
    dataset = runner.train_dataloader.dataset
    batch = pseudo_collate([dataset[i] for i in range(IMAGES)])
    return round(count_training(unwrapped(runner.model), batch, IMAGES), 4)


@torch.no_grad()
def backbone_gflop(backbone: nn.Module, height: int, width: int) -> float:
    """GFLOP (2 per multiply-add) of a backbone's forward pass on one image of so many pixels.

    Of a network on video it is one clip of its frames.

    Edges that are no multiple of its ``size_divisor`` are rounded up, as padding does.
    """
    side = backbone.size_divisor
    size = [-(-edge // side) * side for edge in (height, width)]
    training = backbone.training
    backbone.eval()
    frames = [backbone.frames] if hasattr(backbone, 'frames') else []
    images = torch.zeros(1, 3, *frames, *size, device=next(backbone.parameters()).device)
    try:
        # The fused CPU attention has no counting rule; the plain one is made of counted products.
        with eagerly(), sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
            backbone(images)
    finally:
        backbone.train(training)
    return counter.get_total_flops() / 1e9


def count_training(model: BaseModel, batch: dict[str, Any], images: int) -> float:
    """The same for a batch of so many images as a DataLoader yields it."""
    return sum(training_flops(model, batch).values()) / images / 1e9


def training_flops(model: BaseModel, batch: dict[str, Any]) -> dict[str, int]:
    """FLOP of a step on a batch: forward by the model's children, the ``rest``, ``backward``.

    The rest is what no child's module computes when it is called, as the embedding of kept cubes.
    """
    state = {name: value.clone() for name, value in model.state_dict().items()}
    training = model.training
    model.train()
    data = model.data_preprocessor(batch, True)
    # The fused CPU attention has no counting rule; the plain one is made of counted products.
    with eagerly(), sdpa_kernel(SDPBackend.MATH):
        with FlopCounterMode(display=False) as forward:
            losses = model(**data, mode='loss')
            total, _ = model.parse_losses(losses)
        with FlopCounterMode(display=False) as backward:
            total.backward()
    model.zero_grad(set_to_none=True)
    model.load_state_dict(state)
    model.train(training)
    parts = _by_child(model, forward)
    parts['rest'] = forward.get_total_flops() - sum(parts.values())
    return {**parts, 'backward': backward.get_total_flops()}


def _by_child(model: nn.Module, counter: FlopCounterMode) -> dict[str, int]:
    root = f'{type(model).__name__}.'
    counts = {
        name.removeprefix(root): sum(own.values())
        for name, own in counter.get_flop_counts().items()
        if name.startswith(root)
    }
    parts = dict.fromkeys((name for name, _ in model.named_children()), 0)
    for name, count in counts.items():
        # A list of modules is not called itself: the outermost that are count.
        above = name.split('.')
        if not any('.'.join(above[:end]) in counts for end in range(1, len(above))):
            parts[above[0]] += count
    return {name: count for name, count in parts.items() if count}
