"""Models from the outside: the one inside a wrapper, and when compiled ones run as plain code."""

from contextlib import AbstractContextManager
from typing import Any

import torch
from mmengine.model import BaseTTAModel, is_model_wrapper

# Blocks share one code and differ in numbers (stochastic depth), shapes and modes: torch's default
# of 8 variants would leave the rest uncompiled.
VARIANTS = 64


def eagerly() -> AbstractContextManager:
    """Run compiled code as it was written, for work of other shapes than the training's.

    Compiling for a probe or a picture would take longer than the work, and operations inside of
    compiled code cannot be counted.
    """
    return torch.compiler.set_stance('force_eager')


def prepare_compiling() -> None:
    """Let one code be compiled for every shape and number that a training has, and whole.

    Under DistributedDataParallel torch would cut a block where the first of its buckets is full, at
    1 MB. Gradients of other blocks are sent meanwhile anyway: every block is compiled by itself.
    """
    torch._dynamo.config.recompile_limit = max(VARIANTS, torch._dynamo.config.recompile_limit)
    torch._dynamo.config.optimize_ddp = False


def compiles(options: Any, model: Any) -> bool:
    """Whether a training compiles anything of a model, which may have no such parts.

    Args:
        options: ``compile`` of its config; ``auto`` compiles on GPUs only.
        model: Unwrapped.
    """
    wanted = torch.cuda.is_available() if options == 'auto' else bool(options)
    return wanted and bool(getattr(model, 'parts_to_compile', True))


def unwrapped(model: Any) -> Any:
    """The model inside a DistributedDataParallel or test-time augmentation wrapper."""
    while is_model_wrapper(model) or isinstance(model, BaseTTAModel):
        model = model.module
    return model
