"""Curves from logged scalars: few points per run, mean and spread over seeds."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from comad.leaderboard.report.sources import number

POINTS = 60


@dataclass(frozen=True)
class Band:
    """A curve over seeds.

    Attributes:
        steps: (P,) steps.
        mean: (P,) mean over seeds.
        sd: (P,) standard deviation over seeds, zero for a single one.
        seeds: number of seeds.
    """

    steps: np.ndarray
    mean: np.ndarray
    sd: np.ndarray
    seeds: int


Points = dict[float, float]


def split_scalars(entries: Iterable[Mapping[str, Any]]) -> tuple[dict[str, Points], list[str]]:
    """Return name -> step -> value, and the names of curves with values that are no number.

    Lines of the training carry ``iter``; those of a validation count in epochs if the training
    does. A step that was logged twice, by a run that was resumed, keeps its later value. The
    prefix of a metric (``coco/``) is dropped.
    """
    curves: dict[str, Points] = {}
    gaps: dict[str, None] = {}
    for entry in entries:
        step = number(entry.get('step'))
        if step is None:
            continue
        for key, value in entry.items():
            name = str(key).rsplit('/', 1)[-1]
            if name in ('step', 'iter', 'epoch'):
                continue
            found = number(value)
            if found is not None:
                curves.setdefault(name, {})[step] = found
            elif not isinstance(value, str):
                gaps[name] = None
    return curves, list(gaps)


def thin(points: Points, most: int = POINTS) -> tuple[np.ndarray, np.ndarray]:
    """Return at most ``most`` points (steps, values), each the mean of its neighbours."""
    steps = np.array(sorted(points))
    values = np.array([points[step] for step in steps])
    if len(steps) <= most:
        return steps, values
    bins = np.array_split(np.arange(len(steps)), most)
    return (
        np.array([steps[b].mean() for b in bins]),
        np.array([values[b].mean() for b in bins]),
    )


def over_seeds(curves: Sequence[Points], most: int = POINTS) -> Band:
    """Average one curve of several seeds, at the first one's steps, where all of them have run.

    Raises:
        ValueError: there is no curve, or the seeds have no step in common.
    """
    thinned = [thin(points, most) for points in curves if points]
    if not thinned:
        raise ValueError('no curve')
    first = max(steps[0] for steps, _ in thinned)
    last = min(steps[-1] for steps, _ in thinned)
    grid = thinned[0][0]
    grid = grid[(grid >= first) & (grid <= last)]
    if not len(grid):
        raise ValueError('the seeds have no step in common')
    values = np.stack([np.interp(grid, steps, found) for steps, found in thinned])
    sd = values.std(axis=0, ddof=1) if len(values) > 1 else np.zeros(len(grid))
    return Band(grid, values.mean(axis=0), sd, len(values))
