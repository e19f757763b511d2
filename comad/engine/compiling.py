"""When compiled networks run as plain ones."""

from contextlib import AbstractContextManager

import torch

# Blocks share one code and differ in numbers (stochastic depth), shapes and modes: torch's default
# of 8 variants would leave the rest uncompiled.
VARIANTS = 64


def eagerly() -> AbstractContextManager:
    """Run compiled code as it was written, for work of other shapes than the training's.

    Compiling for a probe or a picture would take longer than the work, and operations inside of
    compiled code cannot be counted.
    """
    return torch.compiler.set_stance('force_eager')


def allow_variants() -> None:
    """Let one code be compiled for every shape and number that a training has."""
    torch._dynamo.config.recompile_limit = max(VARIANTS, torch._dynamo.config.recompile_limit)
