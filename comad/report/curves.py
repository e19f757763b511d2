"""Curves from logged scalars: few points per run, mean and spread over seeds."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from comad.runs.logs import Curve, is_number, read_curves

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


def run_curves(folder: Path) -> tuple[dict[str, Curve], list[str]]:
    """Return name -> step -> value, and the names of curves with values that are no finite number.

    The prefix of a metric (``coco/``) is dropped; such values are left out.
    """
    curves, gaps = read_curves(folder, _figures), []
    for name, curve in curves.items():
        finite = {step: value for step, value in curve.items() if math.isfinite(value)}
        if len(finite) < len(curve):
            gaps.append(name)
        curves[name] = finite
    return {name: curve for name, curve in curves.items() if curve}, gaps


def thin(points: Curve, most: int = POINTS) -> tuple[np.ndarray, np.ndarray]:
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


def over_seeds(curves: Sequence[Curve], most: int = POINTS) -> Band:
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


def _figures(entry: Mapping[str, Any]) -> dict[str, float]:
    return {
        str(name).rsplit('/', 1)[-1]: float(value)
        for name, value in entry.items()
        if name not in ('step', 'iter', 'epoch') and is_number(value)
    }
