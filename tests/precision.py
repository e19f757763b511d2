"""What bfloat16 may change in a training step: bounds from float64 and the number format.

No two machines agree on a step in bfloat16: kernel, instruction set and thread count decide in
which order products are summed and which intermediate is rounded. Common to all is that the
networks round to 8 bits of mantissa and that nothing else does. `check_bfloat16` tests both halves:

1. Rounding in the networks, and how much the model makes of it. In a float64 run every operator of
   the networks rounds its operands and its result by a rule drawn at random: off by less than one
   unit in the last place and right on average, with twice the variance of rounding to the nearest.
   The root mean square of what such draws change is how far this model may be off on these images.
   The step in bfloat16 may be off by `FACTOR` times that: losses, and the gradient of each
   parameter.
2. No rounding elsewhere. Targets and losses are computed once more in float64, from what the
   networks put out in bfloat16. They agree as float32 does.
"""

import copy
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from operator import attrgetter
from random import Random
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map_only

from comad.methods.base import seeded

DRAWS = 16
# Were errors normal, one comparison in 1,000 would leave four times a deviation that 16 draws
# estimate, and one in 30,000 at the variance of rounding to the nearest.
FACTOR = 4.0
# Float32 keeps 24 bits, bfloat16 8: halfway between 2**-24 and 2**-8, which leaves float32 some
# 100 roundings that add up, and does not leave bfloat16 one.
EXACT = 2.0**-16


class Step(NamedTuple):
    """Losses by name, and gradients by name of the parameter, of one training step."""

    losses: dict[str, Tensor]
    gradients: dict[str, Tensor]


class Float64(TorchDispatchMode):
    """Keeps code in float64 that asks for less; rounds to bfloat16 while it is ``noisy``.

    To one of the two neighbours, to the nearer one with the higher probability: the error is 0 on
    average over the rules, and a bfloat16 stays what it is.
    """

    def __init__(self) -> None:
        super().__init__()
        self.draw(0)

    def draw(self, seed: int) -> None:
        """Start anew with another rule of rounding: the odd number that hashes a value."""
        self.noisy, self.rule = False, Random(seed).getrandbits(31) | 1

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        if kwargs.get('dtype') in (torch.float32, torch.bfloat16):
            kwargs['dtype'] = torch.float64
        # Views and changes in place hand on a tensor that exists: only new ones are rounded.
        if not self.noisy or any(out.alias_info for out in func._schema.returns):
            return func(*args, **kwargs)
        args, kwargs = tree_map_only(Tensor, self.round, (args, kwargs))
        out = func(*args, **kwargs)
        if func is torch.ops.aten.native_layer_norm_backward.default:
            gradient, x, _, mean, deviation = args[:5]
            lost = 0, self.lost(gradient * (x - mean) * deviation), self.lost(gradient)
            out = [y if y is None else y + z for y, z in zip(out, lost, strict=True)]
        return tree_map_only(Tensor, self.round, out)

    def round(self, x: Tensor) -> Tensor:
        """A bfloat16 is the upper half of a float32: add noise to the lower half, then drop it.

        The noise is a hash of the value: as on any machine, equal values are rounded equally.
        """
        if not x.is_floating_point():
            return x
        bits = x.float().view(torch.int32)
        noise = bits * self.rule >> 16 & 2**16 - 1
        return (bits + noise & -(2**16)).view(torch.float32).to(x.dtype)

    def lost(self, terms: Tensor) -> Tensor:
        """What a sum over all but the last axis loses that is rounded after each term.

        PyTorch's LayerNorm sums the gradients of weight and bias so on a CPU, all other operators
        round a sum once.
        """
        partial = terms.flatten(0, -2).cumsum(0)
        return (self.round(partial) - partial).sum(0)

    def network(self, function: Callable) -> Callable:
        """``function``, noisy, and so is the backward pass from its results on."""

        def noisy(*args: Any, **kwargs: Any) -> Any:
            self.noisy = True
            out = function(*args, **kwargs)
            self.noisy = False
            for x in tree_leaves(out):
                if isinstance(x, Tensor) and x.requires_grad:
                    x.register_hook(lambda gradient: setattr(self, 'noisy', True))
            return out

        return noisy


def training_step(
    model: nn.Module, images: Tensor, forward: AbstractContextManager | None = None
) -> Step:
    """Losses and gradients; masks and all else that is drawn are the same in each call."""
    model.zero_grad()
    with seeded(0), forward or nullcontext():
        losses = {name: value for name, value in model(images).items() if 'loss' in name}
    sum(losses.values()).backward()
    gradients = {n: p.grad.double() for n, p in model.named_parameters() if p.grad is not None}
    return Step({name: value.detach() for name, value in losses.items()}, gradients)


def replace(model: nn.Module, names: Sequence[str], make: Callable) -> None:
    """Put ``make(name, function)`` in the place of functions such as 'decoder.forward'."""
    for name in names:
        path, _, last = name.rpartition('.')
        owner = attrgetter(path)(model) if path else model
        setattr(owner, last, make(name, getattr(owner, last)))


def float64_steps(
    model: nn.Module, images: Tensor, networks: Sequence[str]
) -> tuple[Step, list[Step]]:
    """The exact step, and `DRAWS` steps whose networks round at random."""
    model, mode, steps = copy.deepcopy(model).double(), Float64(), []
    with mode:
        exact = training_step(model, images.double())
    replace(model, networks, lambda name, function: mode.network(function))
    for seed in range(DRAWS):
        mode.draw(seed)
        # Fused attention would round once; taken apart, its probabilities are rounded as well.
        with sdpa_kernel(SDPBackend.MATH), mode:
            steps.append(training_step(model, images.double()))
    return exact, steps


def bfloat16_step(
    model: nn.Module, images: Tensor, networks: Sequence[str]
) -> tuple[Step, dict[str, list[Any]]]:
    """The step under autocast, and what each call of the networks put out."""
    model, put_out = copy.deepcopy(model), {name: [] for name in networks}

    def record(name: str, function: Callable) -> Callable:
        def recorded(*args: Any, **kwargs: Any) -> Any:
            out = function(*args, **kwargs)
            put_out[name].append(tree_map_only(Tensor, lambda x: x.detach().clone(), out))
            return out

        return recorded

    replace(model, networks, record)
    return training_step(model, images, torch.autocast('cpu', torch.bfloat16)), put_out


def losses_given(
    model: nn.Module, images: Tensor, put_out: dict[str, list[Any]]
) -> dict[str, Tensor]:
    """Losses in float64 for what the networks put out."""

    def double(x: Tensor) -> Tensor:
        return x.double() if x.is_floating_point() else x

    model = copy.deepcopy(model).double()
    rest = {name: iter(tree_map_only(Tensor, double, outs)) for name, outs in put_out.items()}
    replace(model, list(put_out), lambda name, _: lambda *args, **kwargs: next(rest[name]))
    with seeded(0), Float64():
        return model(images.double())


def allowed(exact: Tensor, draws: Sequence[Tensor]) -> float:
    """How far from ``exact`` a result may be: `FACTOR` root mean square distances of the draws."""
    return FACTOR * float(torch.stack([(x - exact).norm() ** 2 for x in draws]).mean().sqrt())


def check_bfloat16(model: nn.Module, images: Tensor, networks: Sequence[str]) -> None:
    """Assert that a step under autocast is off by no more than bfloat16 in its networks explains.

    Args:
        model: in float32; it stays as it is. What it returns under names with 'loss' is summed.
        images: (B, 3, H, W).
        networks: the functions of the model that may compute in bfloat16, 'decoder.forward' for
            instance; none of them calls another.
    """
    check_step(model, images, networks, *float64_steps(model, images, networks))


def check_step(
    model: nn.Module, images: Tensor, networks: Sequence[str], exact: Step, draws: list[Step]
) -> None:
    """The same with known `float64_steps`."""
    rough, put_out = bfloat16_step(model, images, networks)
    given = losses_given(model, images, put_out)
    for name, value in rough.losses.items():
        assert value.dtype == torch.float32, f'{name} is in {value.dtype}'
        off = float(abs(value / given[name] - 1))
        assert off < EXACT, f'{name} is not computed in float32: off by {off:.2g} of it'
    rounded = False
    for part in Step._fields:
        found, wanted = getattr(rough, part), getattr(exact, part)
        assert found.keys() == wanted.keys(), f'other {part}'
        for name, value in wanted.items():
            off = float((found[name] - value).norm())
            bound = allowed(value, [getattr(draw, part)[name] for draw in draws])
            assert off <= bound, f'{part} of {name}: off by {off:.2g}, may be by {bound:.2g}'
            rounded |= off > EXACT * float(value.norm())
    assert rounded, 'nothing was computed in bfloat16'
