"""Do tables that are kept without their records agree with themselves?

A row of the sample's study, ablations and other grids holds the values of its runs, one of its
check two means and deviations; what else it says is computed from them anew.
"""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from pandas import DataFrame

from comad.leaderboard.cells import read_cells
from comad.leaderboard.sample_check import COLUMNS as CHECK_COLUMNS
from comad.leaderboard.sample_check import SAMPLE_CHECK_CSV, verdict
from comad.leaderboard.study import (
    ABLATION_COLUMNS,
    ABLATIONS_CSV,
    COMPLEMENTARY_CSV,
    DEFAULT,
    DISTILLATION_CSV,
    KEY,
    STUDY_CSV,
    VIDEO_CSV,
    read_table,
    seed_statistics,
    t_factor,
)
from comad.leaderboard.tables import Statistics, statistics
from comad.tasks.task import TASKS

# Values and figures are shown with two digits: each may be off by half of the last one.
HALF = 0.005
SLACK = 1e-6
Cells = Mapping[str, Any]


def check_study(path: Path) -> tuple[int, list[str]]:
    """Recompute mean, sd and n of every row of the study from its seeds and values.

    Returns:
        The number of rows, and one line per row that does not agree with itself.
    """
    try:
        table = read_table(path)
    except (ValueError, OSError) as error:
        return 0, [str(error)]
    table = table.assign(twice=table.duplicated(KEY))
    names = table['student'] + ', ' + table['task'] + ' ' + table['metric']
    return len(table), _problems(path, names, table, _study_row)


def check_ablations(path: Path) -> tuple[int, list[str]]:
    """Recompute the figures of every ablation from its values and those of the default above it.

    Returns:
        The number of rows, and one line per row that does not agree with itself.
    """
    try:
        table = _read(path, ABLATION_COLUMNS)
    except (ValueError, OSError) as error:
        return 0, [str(error)]
    # A table of several pairs has one default each, before those that are compared with it.
    defaults = table['values'].where(table['difference'] == DEFAULT)
    table = table.assign(
        default=defaults.groupby(table['metric']).ffill().fillna(''),
        twice=table.duplicated(['cell', 'metric']),
    )
    return len(table), _problems(path, table['cell'] + ', ' + table['metric'], table, _ablation_row)


def check_sample_check(path: Path) -> tuple[int, list[str]]:
    """Recompute gain and verdict of every row that has them from its means and deviations.

    Returns:
        The number of rows, and one line per row that does not agree with itself.
    """
    try:
        table = _read(path, CHECK_COLUMNS).fillna('')
    except (ValueError, OSError) as error:
        return 0, [str(error)]
    return len(table), _problems(path, table['task'] + ', ' + table['teacher'], table, _check_row)


# Tables that are kept without their records: what checks them, and the grid that makes them.
KEPT = {
    STUDY_CSV: (check_study, 'study'),
    VIDEO_CSV: (check_study, 'video'),
    ABLATIONS_CSV: (check_ablations, 'ablations'),
    DISTILLATION_CSV: (check_ablations, 'distillation'),
    COMPLEMENTARY_CSV: (check_ablations, 'complementary'),
    SAMPLE_CHECK_CSV: (check_sample_check, 'sample-check'),
}


def _read(path: Path, columns: Sequence[str]) -> DataFrame:
    table = read_cells(path)
    if tuple(table) != tuple(columns):
        raise ValueError(f'{path}: columns are {list(table)}')
    return table


def _problems(
    path: Path, names: Iterable[str], table: DataFrame, check: Callable[[Cells], Iterable[str]]
) -> list[str]:
    problems = []
    for number, (name, row) in enumerate(zip(names, table.to_dict('records'), strict=True), 1):
        try:
            reasons = list(check(row))
        except (ValueError, TypeError, AttributeError):
            reasons = ['values cannot be read']
        problems += [f'{path.name}, row {number} ({name}): {reason}' for reason in reasons]
    return problems


def _study_row(row: Cells) -> Iterator[str]:
    if row['twice']:
        yield 'is there twice'
    metrics = TASKS[row['task']].metrics.values() if row['task'] in TASKS else ()
    if (row['metric'], row['pool']) not in {(metric.name, metric.pool) for metric in metrics}:
        yield f'no task {row["task"]!r} has metric {row["metric"]!r} with pool {row["pool"]!r}'
    try:
        seeds = [tuple(map(int, seed.split('/'))) for seed in row['seeds'].split('; ')]
        values = [float(value) for value in row['values'].split('; ')]
        runs = [(p, s, value) for (p, s), value in zip(seeds, values, strict=True)]
    except ValueError:
        yield f'seeds {row["seeds"]!r} and values {row["values"]!r} do not belong together'
        return
    if len(set(seeds)) < len(seeds):
        yield f'a seed is there twice in {row["seeds"]!r}'
    yield from _compare(row, statistics(runs), ('mean', 'sd', 'n'))


def _ablation_row(row: Cells) -> Iterator[str]:
    if row['twice']:
        yield 'is there twice'
    values = _by_seed(row['values'])
    absent, wanted = 0, len(values)
    if row['missing']:
        absent, wanted = map(int, row['missing'].removesuffix(' seeds').split(' of '))
    if len(values) + absent != wanted:
        yield f'{len(values)} values and {row["missing"]}'
    yield from _compare(row, seed_statistics(values), ('mean', 'sd', 'n'))
    base = _by_seed(row['default']) if row['difference'] != DEFAULT else {}
    shared = {seed: value - base[seed] for seed, value in values.items() if seed in base}
    paired = seed_statistics(shared)
    yield from _compare(row, paired, ('paired_difference', 'paired_sd', 'paired_n'), HALF)
    if paired is None or paired.sd is None:
        if row['noise_bound'] or row['beyond_noise']:
            yield 'a noise bound without paired seeds'
        return
    quantile = t_factor(paired.n)
    bound, shown = quantile * paired.sd, float(row['noise_bound'])
    if abs(shown - bound) > quantile * 2 * _sd_slack(paired.n) + HALF + SLACK:
        yield f'noise_bound is {row["noise_bound"]}, its values give {bound:.2f}'
    margin = abs(float(row['paired_difference'])) - shown
    if abs(margin) > 2 * HALF and row['beyond_noise'] != ('yes' if margin > 0 else 'no'):
        yield f'beyond_noise is {row["beyond_noise"]!r}'


def _check_row(row: Cells) -> Iterator[str]:
    if not any(row[name] for name in ('gain', 'pooled_sd', 'passes')):
        return  # of runs that are missing
    sides = []
    for of in ('', 'random_'):
        sd = float(row[f'{of}sd']) if row[f'{of}sd'] else None
        sides.append(Statistics(float(row[f'{of}mean']), sd, int(row[f'{of}n'])))
    due = verdict(*sides, float(row['needed']))
    near = [name for name in ('gain', 'pooled_sd') if name in due]
    # Of two shown means and of the row itself.
    off = any(abs(float(row[name]) - float(due[name])) > 3 * HALF for name in near)
    if off or row['passes'] != due['passes']:
        yield 'gain or verdict do not follow'


def _compare(
    row: Cells, stats: Statistics | None, columns: Sequence[str], more: float = 0.0
) -> Iterator[str]:
    """Mean, sd and n as shown against those of the shown values, ``more`` of rounding in each."""
    mean, sd, n = columns
    count = stats.n if stats else 0
    if row[n] != str(count):
        yield f'{n} is {row[n]}, its values are {count}'
    slack = (HALF + more) / HALF
    for column, value, off in (
        (mean, stats and stats.mean, HALF * slack),
        (sd, stats and stats.sd, _sd_slack(count) * slack),
    ):
        text = row[column]
        if value is None:
            if text:
                yield f'{column} is {text}, its values give none'
        elif not text or not abs(float(text) - value) <= off + HALF + SLACK:
            yield f'{column} is {text or "blank"}, its values give {value:.2f}'


def _sd_slack(n: int) -> float:
    """How far an sd can move when every one of n values moves by half a digit."""
    return HALF * math.sqrt(n / (n - 1)) if n > 1 else 0.0


def _by_seed(text: str) -> dict[int, float]:
    pairs = (entry.split(': ') for entry in text.split('; ')) if text else ()
    return {int(seed): float(value) for seed, value in pairs}
