"""Committed tables against what they must hold: the leaderboards, the study, the ablations."""

import csv
import io
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from comad.leaderboard.study import (
    ABLATION_COLUMNS,
    DEFAULT,
    KEY,
    read_table,
    seed_statistics,
    t_factor,
)
from comad.leaderboard.tables import Statistics, statistics
from comad.tasks.task import TASKS

# Values and figures are shown with two digits: each may be off by half of the last one.
HALF = 0.005
SLACK = 1e-6


def difference(path: Path, expected: str) -> str | None:
    """Return the first place where a table differs from what it must be, None if nowhere."""
    try:
        found = path.read_bytes()
    except OSError as error:
        return f'{path} cannot be read ({error.strerror})'
    if found == expected.encode():
        return None
    shown = list(csv.reader(io.StringIO(found.decode(errors='replace'), newline='')))
    wanted = list(csv.reader(io.StringIO(expected, newline='')))
    header = wanted[0]
    if not shown or shown[0] != header:
        return f'{path}: other columns'
    for number, (old, new) in enumerate(zip(shown[1:], wanted[1:], strict=False), start=1):
        if len(old) != len(new):
            return f'{path}, row {number} ({_named(new, header)}): {len(old)} cells, not {len(new)}'
        for column, has, needs in zip(header, old, new, strict=True):
            if has != needs:
                return (
                    f'{path}, row {number} ({_named(new, header)}): {column} is {has!r}, the '
                    f'records and published figures give {needs!r}'
                )
    if len(shown) != len(wanted):
        return f'{path}: {len(shown) - 1} rows, {len(wanted) - 1} are due'
    return f'{path}: line ends or quotes differ'


def check_study(path: Path) -> tuple[int, list[str]]:
    """Recompute mean, sd and n of every row of the study from its seeds and values.

    Returns:
        The number of rows, and one line per row that does not agree with itself.
    """
    try:
        rows = read_table(path)
    except (ValueError, OSError) as error:
        return 0, [str(error)]
    problems, seen = [], set()
    for number, row in enumerate(rows, start=1):
        place = f'{path.name}, row {number} ({row["student"]}, {row["task"]} {row["metric"]})'
        key = tuple(row[column] for column in KEY)
        if key in seen:
            problems.append(f'{place}: is there twice')
        seen.add(key)
        problems += [f'{place}: {reason}' for reason in _study_row(row)]
    return len(rows), problems


def check_ablations(path: Path) -> tuple[int, list[str]]:
    """Recompute the figures of every ablation from its values and those of the default.

    Returns:
        The number of rows, and one line per row that does not agree with itself.
    """
    try:
        with open(path, newline='', encoding='utf-8') as stream:
            reader = csv.DictReader(stream)
            if tuple(reader.fieldnames or ()) != ABLATION_COLUMNS:
                return 0, [f'{path}: columns are {reader.fieldnames}']
            rows = list(reader)
    except (ValueError, OSError) as error:
        return 0, [f'{path}: {error}']
    problems = []
    defaults = {row['metric']: row for row in rows if row['difference'] == DEFAULT}
    for number, row in enumerate(rows, start=1):
        place = f'{path.name}, row {number} ({row["cell"]}, {row["metric"]})'
        try:
            reasons = list(_ablation_row(row, defaults.get(row['metric'])))
        except (ValueError, TypeError, AttributeError):
            reasons = ['values cannot be read']
        problems += [f'{place}: {reason}' for reason in reasons]
    return len(rows), problems


def _study_row(row: Mapping[str, str]) -> Iterable[str]:
    task = TASKS.get(row['task'])
    if task is None or (row['metric'], row['pool']) not in {
        (metric.name, metric.pool) for metric in task.metrics.values()
    }:
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


def _ablation_row(row: Mapping[str, str], default: Mapping[str, str] | None) -> Iterable[str]:
    values = _by_seed(row['values'])
    wanted = int(row['missing'].split(' of ')[1].split()[0]) if row['missing'] else len(values)
    absent = int(row['missing'].split()[0]) if row['missing'] else 0
    if len(values) + absent != wanted:
        yield f'{len(values)} values and {row["missing"]}'
    yield from _compare(row, seed_statistics(values), ('mean', 'sd', 'n'))
    base = _by_seed(default['values']) if default else {}
    shared = {} if row is default else {s: v - base[s] for s, v in values.items() if s in base}
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


def _compare(
    row: Mapping[str, str],
    stats: Statistics | None,
    columns: tuple[str, str, str],
    more: float = 0.0,
) -> Iterable[str]:
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


def _named(cells: Sequence[str], header: Sequence[str]) -> str:
    row = dict(zip(header, cells, strict=False))
    return ', '.join(row[c] for c in ('method', 'protocol', 'metric', 'pool') if row.get(c))
