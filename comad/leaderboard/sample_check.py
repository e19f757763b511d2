"""Whether the embedded sample measures representations: its teachers against random weights.

The sample was chosen by this table, never by how methods of distillation rank on it.
"""

import math
from collections.abc import Iterable, Mapping
from pathlib import Path

from pandas import DataFrame

from comad.leaderboard.cells import read_cells
from comad.leaderboard.outputs import markdown_table
from comad.leaderboard.tables import Statistics, figures, statistics
from comad.runs.place import RESULTS
from comad.runs.record import Record

SAMPLE_CHECK_CSV = RESULTS / 'sample_check.csv'
# Task -> its figure, and how many points ahead of random weights every teacher has to be.
NEEDED = {
    'knn': ('top1', 20.0),
    'linear': ('top1', 20.0),
    'finetune': ('top1', 10.0),
    'upernet': ('mIoU', 10.0),
    'mask_rcnn': ('bbox_mAP_50', 10.0),
}
COLUMNS = (
    *('task', 'metric', 'teacher', 'pool', 'mean', 'sd', 'n'),
    *('random_pool', 'random_mean', 'random_sd', 'random_n'),
    *('gain', 'needed', 'pooled_sd', 'passes'),
)


def check_rows(records: Iterable[Record], random: str, teachers: Iterable[str]) -> DataFrame:
    """Return one row per task and teacher, ``COLUMNS`` of it; blank where runs are missing.

    Figures are percent or points. Where a task reports several poolings of the tokens, each network
    is judged by its better one. A teacher passes with a gain of at least what is needed and of more
    than twice the pooled standard deviation over seeds.

    Args:
        records: run records; others than of these networks and tasks are left out.
        random: the network that has learned nothing.
        teachers: the networks to judge, of the same size.
    """
    found = figures(records).dropna(subset='value')
    best: dict[tuple[str, str], tuple[str, Statistics]] = {}
    for (task, student, metric, pool), own in found.groupby(['task', 'student', 'metric', 'pool']):
        if NEEDED.get(task, ('',))[0] == metric:
            values = own[['pretrain', 'transfer', 'value']].itertuples(index=False, name=None)
            stats = statistics(values)
            if (task, student) not in best or stats.mean > best[task, student][1].mean:
                best[task, student] = pool, stats
    teachers = list(teachers)
    rows = []
    for task, (metric, needed) in NEEDED.items():
        for teacher in teachers:
            row = {'task': task, 'metric': metric, 'teacher': teacher, 'needed': f'{needed:.0f}'}
            own, other = best.get((task, teacher)), best.get((task, random))
            row |= _shown('', own) | _shown('random_', other)
            if own and other:
                row |= verdict(own[1], other[1], needed)
            rows.append(row)
    return DataFrame(rows, columns=COLUMNS, dtype=str).fillna('')


def _shown(prefix: str, found: tuple[str, Statistics] | None) -> dict[str, str]:
    if found is None:
        return {}
    pool, stats = found
    return {
        f'{prefix}pool': pool,
        f'{prefix}mean': f'{stats.mean:.2f}',
        f'{prefix}sd': '' if stats.sd is None else f'{stats.sd:.2f}',
        f'{prefix}n': str(stats.n),
    }


def verdict(own: Statistics, other: Statistics, needed: float) -> dict[str, str]:
    """Of single seeds there is no noise to be beyond, hence no verdict."""
    gain = own.mean - other.mean
    row = {'gain': f'{gain:+.2f}', 'passes': ''}
    if own.sd is None or other.sd is None:
        return row
    pooled = math.sqrt((own.sd**2 + other.sd**2) / 2)
    passes = gain >= needed and gain > 2 * pooled
    return row | {'pooled_sd': f'{pooled:.2f}', 'passes': 'yes' if passes else 'no'}


def read_check(rows: DataFrame) -> list[str]:
    """Return `check_rows` as lines, the last of which says whether the sample passes."""
    lines = []
    for (task, metric), own in rows.groupby(['task', 'metric'], sort=False):
        random = own.iloc[0]
        lines.append(f'{task} {metric}: random weights {_spread(random, "random_")}')
        for row in own.to_dict('records'):
            unknown = 'one seed tells no noise' if row['gain'] else 'runs are missing'
            verdict = {'yes': 'passes', 'no': 'FAILS'}.get(row['passes'], unknown)
            gain = f', {row["gain"]} of {row["needed"]} needed' if row['gain'] else ''
            lines.append(f'  {row["teacher"]} {_spread(row, "")}{gain}: {verdict}')
    return [*lines, conclusion(rows)]


def conclusion(rows: DataFrame) -> str:
    """Whether all comparisons of `check_rows` hold, and over how many seeds, in a sentence."""
    seeds = min(int(n or 0) for name in ('n', 'random_n') for n in rows[name])
    passed = int((rows['passes'] == 'yes').sum())
    passes = 'passes' if passed == len(rows) else 'does not pass'
    if seeds == 1 and not (rows['passes'] == 'no').any():
        passes = 'is not judged from one seed'
    return (
        f'The sample {passes}: {passed} of {len(rows)} comparisons hold, each over at least '
        f'{seeds} seeds.'
    )


def check_block(path: Path) -> str:
    """The table as docs/results.md shows it, a line per task, and its verdict."""
    if not path.is_file():
        return 'The check has not been run yet.'
    rows = read_cells(path)
    lines = []
    for (task, metric), own in rows.groupby(['task', 'metric'], sort=False):
        line = {'task': f'{task}, {metric}', 'random weights': _cell(own.iloc[0], 'random_')}
        line |= {f'`{row["teacher"]}`': _cell(row, '') for row in own.to_dict('records')}
        lines.append(line | {'lead needed': own['needed'].iat[0]})
    return f'{markdown_table(DataFrame(lines))}\n\n{conclusion(rows)}'


def _cell(row: Mapping[str, str], prefix: str) -> str:
    mean, sd, n = (row[prefix + name] for name in ('mean', 'sd', 'n'))
    return f'{mean} ± {sd} ({n})' if sd else mean


def _spread(row: dict[str, str], prefix: str) -> str:
    mean, sd, n, pool = (row[prefix + name] for name in ('mean', 'sd', 'n', 'pool'))
    if not mean:
        return 'not measured'
    text = f'{mean} +- {sd}' if sd else mean
    return f'{text} (n = {n}{", " + pool if pool else ""})'
