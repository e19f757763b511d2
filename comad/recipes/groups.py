"""The optimizer's parameter groups as a table."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from mmengine.registry import OPTIM_WRAPPER_CONSTRUCTORS
from torch import nn

from comad.evaluation.layer_decay import layer_of


@dataclass(frozen=True)
class Group:
    """Parameters of one layer that share a rate and a weight decay.

    Attributes:
        layer: ``input``, ``block 0`` ..., or the module behind the backbone.
        lr_scale: Factor on the learning rate.
        weight_decay: As it is used.
        tensors, parameters: How many.
        example: Name of the first tensor.
    """

    layer: str
    lr_scale: float
    weight_decay: float
    tensors: int
    parameters: int
    example: str


def parameter_groups(config: Mapping[str, Any], model: nn.Module) -> list[Group]:
    """Build the optimizer as a run would and read its groups, in layer order."""
    wrapper_cfg = dict(config['optim_wrapper'])
    name = wrapper_cfg.pop('constructor', 'DefaultOptimWrapperConstructor')
    paramwise = wrapper_cfg.pop('paramwise_cfg', None)
    wrapper_cfg['type'] = 'OptimWrapper'
    wrapper_cfg.pop('dtype', None)
    optimizer = OPTIM_WRAPPER_CONSTRUCTORS.get(name)(wrapper_cfg, paramwise)(model).optimizer
    base = config['optim_wrapper']['optimizer']['lr']
    settings = {
        id(p): (g['lr'], g['weight_decay']) for g in optimizer.param_groups for p in g['params']
    }
    depth = len(getattr(model.backbone, 'blocks', ()))
    found: dict[tuple[int, str, float, float], list[tuple[str, int]]] = {}
    for name, parameter in model.named_parameters():
        if id(parameter) in settings:
            lr, decay = settings[id(parameter)]
            number = layer_of(name, depth)
            key = (number, _layer(name, number, depth), lr / base, decay)
            found.setdefault(key, []).append((name, parameter.numel()))
    return [
        Group(layer, scale, decay, len(members), sum(n for _, n in members), members[0][0])
        for (_, layer, scale, decay), members in sorted(
            found.items(), key=lambda entry: entry[0][0]
        )
    ]


def _layer(name: str, number: int, depth: int) -> str:
    if number == 0:
        return 'input'
    if number <= depth:
        return f'block {number - 1}'
    parts = name.split('.')
    return 'backbone norm' if parts[0] == 'backbone' else parts[0]
