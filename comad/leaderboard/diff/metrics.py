"""The figures of two runs side by side, and whether their difference exceeds noise."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from comad.leaderboard.diff.names import Run
from comad.leaderboard.tables import Statistics, is_tie, statistics
from comad.tasks.task import TASKS

UNKNOWN = 'noise unknown: one run each, no other seeds'


@dataclass(frozen=True)
class MetricDifference:
    """One figure of two runs; percent for the metrics of tables, as reported for others.

    Attributes:
        a: Mean, sd and n of the first; None where it has no such figure.
        difference: Second minus first.
        noise: 2 sqrt(s1^2 / n1 + s2^2 / n2); None where a side's spread is unknown.
        beyond_noise: Whether the difference is no tie; None where that cannot be told.
        basis: Where the spread comes from, in words.
    """

    metric: str
    a: Statistics | None
    b: Statistics | None
    difference: float | None
    noise: float | None
    beyond_noise: bool | None
    basis: str


def compare_metrics(first: Run, second: Run) -> list[MetricDifference]:
    """Compare every figure that either side's records hold, those of tables first."""
    names = dict.fromkeys(
        (section, key)
        for section in ('metrics', 'other_metrics')
        for run in (first, second)
        for record in run.records.values()
        for key in record.get(section) or ()
    )
    return [_compare(first, second, *name) for name in names]


def judge(
    first: Statistics | None, second: Statistics | None
) -> tuple[float | None, float | None, bool | None]:
    """Return second minus first, the noise bound and whether it is exceeded; None if unknown."""
    if first is None or second is None:
        return None, None, None
    difference = second.mean - first.mean
    if first.sd is None or second.sd is None:
        return difference, None, False if difference == 0 else None
    noise = 2 * math.sqrt(first.sd**2 / first.n + second.sd**2 / second.n)
    return difference, noise, not is_tie(first, second)


def _compare(first: Run, second: Run, section: str, key: str) -> MetricDifference:
    own = [_statistics(run.records.values(), section, key) for run in (first, second)]
    used, borrowed = list(own), {}
    for side, run in enumerate((first, second)):
        figure = own[side]
        if figure is None or figure.n > 1:
            continue
        row = _statistics([*run.records.values(), *run.siblings.values()], section, key)
        if row is not None and row.sd is not None:
            used[side] = Statistics(figure.mean, row.sd, 1)
            borrowed[side] = row.n
    difference, noise, beyond = judge(*used)
    if None in own:
        absent = [run.name for run, figure in zip((first, second), own, strict=True) if not figure]
        return MetricDifference(key, *own, None, None, None, f'no figure of {absent[0]}')
    if noise is None:
        single = [
            run.name
            for run, figure in zip((first, second), used, strict=True)
            if figure is None or figure.sd is None
        ]
        text = UNKNOWN if len(single) == 2 else f'noise unknown: one run of {single[0]}'
        return MetricDifference(key, *own, difference, None, beyond, text)
    if len(borrowed) == 2:
        text = f'one run each, sd of the {borrowed[0]} and {borrowed[1]} seeds of their rows'
    elif borrowed:
        ((side, n),) = borrowed.items()
        text = f'one run of {(first, second)[side].name}, sd of the {n} seeds of its row'
    else:
        text = f'{own[0].n} and {own[1].n} seeds'
    return MetricDifference(key, *own, difference, noise, beyond, text)


def _statistics(records: Iterable[Mapping[str, Any]], section: str, key: str) -> Statistics | None:
    values = [
        (r['seeds']['pretrain'], r['seeds']['transfer'], _percent(r, section, key))
        for r in records
        if key in (r.get(section) or {})
    ]
    return statistics(values) if values else None


def _percent(record: Mapping[str, Any], section: str, key: str) -> float:
    value = float(record[section][key])
    task = TASKS.get(record['task'])
    if section == 'metrics' and task is not None and key in task.metrics:
        return task.metrics[key].percent(value)
    return value
