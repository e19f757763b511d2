"""The study and CoMAD's ablations on the embedded sample: their tables, and what they show.

Every figure and every line is computed from run records; a run that is missing stays missing.
"""

import csv
import io
import math
import os
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from comad.leaderboard.details import known_mean
from comad.leaderboard.tables import MEASURED, Statistics, statistics
from comad.runs.record import Record
from comad.tasks.task import TASKS

KEY = ('student', 'task', 'metric', 'pool')
STUDY_COLUMNS = (
    *('student', 'method_version', 'teachers', 'task', 'metric', 'pool', 'mean', 'sd', 'n'),
    *('seeds', 'values', 'pretrain_seconds', 'pretrain_gflop_per_image', 'pretrain_tflop'),
    *('kind', 'protocol', 'protocol_version', 'device', 'cpu', 'torch'),
)
ABLATION_COLUMNS = (
    *('cell', 'difference', 'metric', 'mean', 'sd', 'n'),
    *('paired_difference', 'paired_sd', 'paired_n', 'noise_bound', 'beyond_noise'),
    *('values', 'missing'),
)
DEFAULT = 'the default'
# Two-sided 95 % quantiles of Student's t for 1, 2, ... degrees of freedom; the last serves beyond.
T_QUANTILES = (12.71, 4.30, 3.18, 2.78, 2.57, 2.45, 2.36, 2.31, 2.26)
LEVEL = 0.05
Cells = dict[str, str]


@dataclass(frozen=True)
class StudyRow:
    """One student, task, metric and pool over all seeds; values in percent.

    Attributes:
        values: (seed of the pretraining, of the transfer) -> figure.
        pretrain_seconds: Wall time of the pretraining, mean over the runs.
        pretrain_tflop: GFLOP per image times images seen, teachers included, mean over the runs.
        first: One of the records.
    """

    student: str
    task: str
    metric: str
    pool: str
    values: dict[tuple[int, int], float]
    statistics: Statistics
    pretrain_seconds: float | None
    pretrain_tflop: float | None
    first: Record

    def __str__(self) -> str:
        pool = f' ({self.pool})' if self.pool else ''
        return f'{self.student}, {self.task} {self.metric}{pool}: {_spread(self.statistics)}'


def study_rows(records: Iterable[Record]) -> list[StudyRow]:
    """Return one row per student x task x metric x pool, in the order tasks are declared."""
    grouped: dict[tuple[str, ...], dict[tuple[int, int], tuple[Record, float]]] = defaultdict(dict)
    for record in records:
        for key, value in record.metrics.items():
            metric = TASKS[record.task].metrics[key]
            group = grouped[record.student.name, record.task, metric.name, metric.pool]
            seeds = (record.seeds.pretrain, record.seeds.transfer)
            group[seeds] = (record, metric.percent(value))
    rows = []
    for key, group in grouped.items():
        students = [record.student for record, _ in group.values()]
        values = {seeds: group[seeds][1] for seeds in sorted(group)}
        rows.append(
            StudyRow(
                *key,
                values,
                statistics((*seeds, value) for seeds, value in values.items()),
                known_mean(student.pretrain_seconds for student in students),
                known_mean(map(_tflop, students)),
                next(iter(group.values()))[0],
            )
        )
    return sorted(rows, key=lambda row: _place(vars(row)))


def study_cells(row: StudyRow) -> Cells:
    """One row as text; means, sds and values in percent."""
    protocol, student, environment = row.first.protocol, row.first.student, row.first.environment
    cells = {
        'student': row.student,
        'method_version': student.method_version or '',
        'teachers': '; '.join(teacher.family or '?' for teacher in student.teachers),
        'task': row.task,
        'metric': row.metric,
        'pool': row.pool,
        **_shown(row.statistics),
        'seeds': '; '.join(f'{p}/{s}' for p, s in row.values),
        'values': '; '.join(f'{value:.2f}' for value in row.values.values()),
        'pretrain_seconds': _number(row.pretrain_seconds, '.1f'),
        'pretrain_gflop_per_image': _number(student.pretrain_gflop_per_image, '.3g'),
        'pretrain_tflop': _number(row.pretrain_tflop, '.4g'),
        'kind': MEASURED,
        'protocol': protocol.name,
        'protocol_version': protocol.version,
        'device': environment.device,
        'cpu': environment.cpu or '',
        'torch': environment.versions.get('torch', ''),
    }
    return {column: str(value) for column, value in cells.items()}


def read_table(path: str | os.PathLike[str]) -> list[Cells]:
    """The rows of a study that is there, ``[]`` without one; columns it lacks are blank.

    Raises:
        ValueError: A column that is not one of the study's.
    """
    if not Path(path).is_file():
        return []
    with open(path, newline='', encoding='utf-8') as stream:
        reader = csv.DictReader(stream)
        if unknown := [name for name in reader.fieldnames or () if name not in STUDY_COLUMNS]:
            raise ValueError(
                f'{path}: unknown column {unknown[0]!r}; expected {", ".join(STUDY_COLUMNS)}'
            )
        return [{column: row.get(column) or '' for column in STUDY_COLUMNS} for row in reader]


def complete(old: Iterable[Mapping[str, str]], rows: Sequence[StudyRow]) -> tuple[list[Cells], int]:
    """New rows and the old ones of other students, tasks, metrics and pools, as they were.

    Returns:
        The rows in the order of :func:`study_rows`, and how many are old.
    """
    new = [study_cells(row) for row in rows]
    replaced = {_key(cells) for cells in new}
    kept = [dict(cells) for cells in old if _key(cells) not in replaced]
    return sorted([*kept, *new], key=_place), len(kept)


def to_csv(table: Iterable[Mapping[str, Any]], columns: Sequence[str] = STUDY_COLUMNS) -> str:
    """The table as CSV text; equal rows give equal bytes."""
    stream = io.StringIO()
    writer = csv.DictWriter(stream, columns, lineterminator='\n')
    writer.writeheader()
    writer.writerows(table)
    return stream.getvalue()


@dataclass(frozen=True)
class AblationRow:
    """One cell and metric over paired seeds; all figures in percent or percentage points.

    Attributes:
        values: seed -> figure; a seed whose run is missing is not there.
        differences: seed -> figure minus that of the default with the same seed.
        wanted: seeds that were asked for.
    """

    cell: str
    difference: str
    metric: str
    values: dict[int, float]
    differences: dict[int, float]
    wanted: int

    @property
    def statistics(self) -> Statistics | None:
        """Mean, sd and n of the figures; None without any."""
        return seed_statistics(self.values)

    @property
    def paired(self) -> Statistics | None:
        """Mean, sd and n of the differences; None without any."""
        return seed_statistics(self.differences)

    @property
    def noise_bound(self) -> float | None:
        """Half width of the 95 % t interval of the paired difference; None below two seeds.

        With three seeds it is 2.5 sd: a rule of 2 sd / sqrt(n) would find an effect in 18 % of the
        cells without any.
        """
        if self.paired is None or self.paired.sd is None:
            return None
        return t_factor(self.paired.n) * self.paired.sd

    @property
    def beyond_noise(self) -> bool | None:
        """Whether the mean difference is beyond the bound; None where that cannot be told."""
        return None if self.noise_bound is None else abs(self.paired.mean) > self.noise_bound


def t_factor(n: int) -> float:
    """Half width of the 95 % t interval of a mean of ``n`` values, in their sd."""
    return T_QUANTILES[min(n - 1, len(T_QUANTILES)) - 1] / math.sqrt(n)


def seed_statistics(values: Mapping[int, float]) -> Statistics | None:
    """Mean, sd and n of one figure per seed; None without any."""
    return statistics((seed, 0, value) for seed, value in values.items()) if values else None


def ablation_rows(
    records: Iterable[Record], default: str, cells: Mapping[str, str], kind: str, seeds: int
) -> list[AblationRow]:
    """Return one row per metric and cell, the default first, whether runs are there or not.

    Args:
        records: run records; those of other tasks, students and unpaired seeds are left out.
        default: the student that the cells differ from.
        cells: student -> its difference, in the order wanted.
        kind: the task.
        seeds: how many paired seeds were asked for.
    """
    found: dict[tuple[str, str, str], dict[int, float]] = {}
    for row in study_rows(record for record in records if record.task == kind):
        paired = {p: value for (p, s), value in row.values.items() if p == s}
        found[row.student, row.metric, row.pool] = paired
    rows = []
    for key, metric in TASKS[kind].metrics.items():
        base = found.get((default, metric.name, metric.pool), {})
        for cell, difference in {default: DEFAULT, **cells}.items():
            values = found.get((cell, metric.name, metric.pool), {})
            shared = {s: v - base[s] for s, v in values.items() if s in base and cell != default}
            rows.append(AblationRow(cell, difference, key, values, shared, seeds))
    # A metric that no run reports, such as top-5, is no figure of these ablations.
    reported = {row.metric for row in rows if row.values}
    return [row for row in rows if row.metric in reported]


def ablation_csv(rows: Iterable[AblationRow]) -> str:
    """Return the table as CSV text; equal rows give equal bytes."""
    return to_csv(map(_ablation_cells, rows), ABLATION_COLUMNS)


def _ablation_cells(row: AblationRow) -> dict[str, Any]:
    missing = row.wanted - len(row.values)
    paired = _shown(row.paired, '+.2f')
    return {
        'cell': row.cell,
        'difference': row.difference,
        'metric': row.metric,
        **_shown(row.statistics),
        'paired_difference': paired['mean'],
        'paired_sd': paired['sd'],
        'paired_n': paired['n'],
        'noise_bound': _number(row.noise_bound),
        'beyond_noise': {True: 'yes', False: 'no', None: ''}[row.beyond_noise],
        'values': '; '.join(f'{seed}: {value:.2f}' for seed, value in row.values.items()),
        'missing': f'{missing} of {row.wanted} seeds' if missing else '',
    }


def read_ablations(rows: Sequence[AblationRow]) -> list[str]:
    """Return the reading, line by line: what is beyond seed noise, what is not, what is missing."""
    lines = []
    for metric in dict.fromkeys(row.metric for row in rows):
        mine = [row for row in rows if row.metric == metric]
        lines.append(f'{metric}: default {_run_spread(mine[0])}')
        told = [row for row in mine[1:] if row.beyond_noise is not None]
        for row in sorted(told, key=lambda row: row.paired.mean):
            verdict = 'beyond' if row.beyond_noise else 'within'
            lines.append(
                f'  {row.cell} ({row.difference}): {_spread(row.paired, "+.2f")}, {verdict} seed '
                f'noise (bound {row.noise_bound:.2f})'
            )
        lines += [f'  {r.cell}: no verdict, {_run_spread(r)}' for r in mine[1:] if r not in told]
    told = [row for row in rows if row.beyond_noise is not None]
    beyond = sum(bool(row.beyond_noise) for row in told)
    lines.append(
        f'{beyond} of {len(told)} differences are beyond the 95 % interval of paired seeds; about '
        f'{LEVEL * len(told):.1f} would be if no choice mattered'
    )
    if gaps := sorted({row.cell for row in rows if len(row.values) < row.wanted}):
        lines.append(f'missing runs: {", ".join(gaps)}')
    lines.append(
        'The sample is 6,000 drawn images of 64 px, teachers and students trained for minutes: it '
        'says which choices matter there, nothing about ImageNet'
    )
    return lines


def _shown(stats: Statistics | None, form: str = '.2f') -> dict[str, Any]:
    if stats is None:
        return {'mean': '', 'sd': '', 'n': 0}
    return {'mean': format(stats.mean, form), 'sd': _number(stats.sd), 'n': stats.n}


def _spread(stats: Statistics, form: str = '.2f') -> str:
    sd = '' if stats.sd is None else f' +- {stats.sd:.2f}'
    return f'{stats.mean:{form}}{sd} (n = {stats.n})'


def _run_spread(row: AblationRow) -> str:
    return _spread(row.statistics) if row.statistics else f'no run of {row.wanted}'


def _number(value: float | None, form: str = '.2f') -> str:
    return '' if value is None else format(value, form)


def _tflop(student: Any) -> float | None:
    cost, images = student.pretrain_gflop_per_image, student.images_seen
    return None if cost is None or images is None else cost * images / 1000


def _key(cells: Mapping[str, Any]) -> tuple[str, ...]:
    return tuple(cells[column] for column in KEY)


def _place(cells: Mapping[str, Any]) -> tuple[Any, ...]:
    tasks = list(TASKS)
    known = tasks.index(cells['task']) if cells['task'] in tasks else len(tasks)
    return (known, cells['metric'], cells['pool'], cells['student'])
