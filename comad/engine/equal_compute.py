"""Pretrainings of equal cost: how many epochs of one method cost as much as those of another.

The rule: a budget is ``factor`` times what the reference's finished run of seed 0 has cost, GFLOP
per image times images seen, teachers included and the optimizer left out, as its card states it. A
method trains for the whole number of epochs whose cost comes nearest to the budget, at least one;
its own GFLOP per image are those of its own run's card. Warm-up, rates and everything else stay.
"""

import re
from dataclasses import dataclass
from pathlib import Path

from backbones.files import read_json

FORM = re.compile(r'([a-z0-9_]+):([1-9]\d*)')


@dataclass(frozen=True)
class Run:
    """What the card of a finished pretraining says about its cost."""

    gflop_per_image: float
    images: int
    epochs: int


def parse_budget(text: str) -> tuple[str, int]:
    """``comad_tiny:4`` -> student and factor.

    Raises:
        ValueError: another form.
    """
    match = FORM.fullmatch(text)
    if match is None:
        raise ValueError(
            f'--compute-of {text}: expected STUDENT:FACTOR with a whole factor, e.g. comad_tiny:4'
        )
    return match[1], int(match[2])


def equal_epochs(student: str, budget: str, root: Path) -> int:
    """Epochs of ``student`` whose cost is nearest to the budget, at least one.

    Args:
        student: the student, whose own run of seed 0 has to be finished.
        budget: ``STUDENT:FACTOR``, see :func:`parse_budget`.
        root: folder of the pretraining runs.

    Raises:
        ValueError: a run is not finished, or its card states no cost.
    """
    reference, factor = parse_budget(budget)
    base, own = (read_run(name, root) for name in (reference, student))
    total = factor * base.gflop_per_image * base.images
    epoch = own.gflop_per_image * own.images / own.epochs
    return max(1, round(total / epoch))


def read_run(student: str, root: Path) -> Run:
    """Cost of a finished pretraining of seed 0.

    Raises:
        ValueError: its card is missing or does not state the cost.
    """
    path = root / student / 'seed0' / 'student.json'
    try:
        card = read_json(path)
        run = Run(card['pretrain_gflop_per_image'], card['images_seen'], card['epochs'])
    except (OSError, ValueError, KeyError, TypeError):
        run = None
    if run is None or not (run.gflop_per_image and run.images and run.epochs):
        raise ValueError(
            f'{path} does not state what {student} costs: --compute-of needs its own finished '
            'pretraining of seed 0'
        )
    return run
