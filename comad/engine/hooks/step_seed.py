"""Randomness of a step as a function of (seed, step, rank)."""

import random
from typing import Any

import numpy as np
import torch
from mmengine.dist import get_rank
from mmengine.hooks import Hook
from mmengine.registry import HOOKS


@HOOKS.register_module()
class StepSeedHook(Hook):
    """Seeds Python, numpy and torch before every training step and every validation.

    Saved generator states would not do: every data iterator draws from the global generators, so
    that a resumed run could not continue their sequence. Masks and drop path depend on this.
    """

    priority = 'VERY_HIGH'

    def before_train_iter(self, runner: Any, batch_idx: int, data_batch: Any = None) -> None:
        self._seed(runner)

    def before_val(self, runner: Any) -> None:
        self._seed(runner)

    def _seed(self, runner: Any) -> None:
        seed_step(runner.seed or 0, runner.iter, get_rank())


def seed_step(seed: int, step: int, rank: int) -> None:
    """Seed Python, numpy and torch for a step of a process."""
    sequence = np.random.SeedSequence([seed, step, rank])
    python, numpy, torch_seed = (int(word) for word in sequence.generate_state(3))
    random.seed(python)
    np.random.seed(numpy)
    torch.manual_seed(torch_seed)
