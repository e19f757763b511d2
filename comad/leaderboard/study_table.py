"""The table of the study: rows as CSV, and a table that another run has begun, completed."""

import csv
import io
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from comad.leaderboard.study import StudyRow
from comad.leaderboard.tables import MEASURED
from comad.tasks.task import TASKS

COLUMNS = (
    'student',
    'method_version',
    'teachers',
    'task',
    'metric',
    'pool',
    'mean',
    'sd',
    'n',
    'seeds',
    'values',
    'pretrain_seconds',
    'pretrain_gflop_per_image',
    'pretrain_tflop',
    'kind',
    'protocol',
    'protocol_version',
    'device',
    'cpu',
    'torch',
)
KEY = ('student', 'task', 'metric', 'pool')
Cells = dict[str, str]


def study_cells(row: StudyRow) -> Cells:
    """One row as text; means, sds and values in percent."""
    environment, protocol = row.first['environment'], row.first['protocol']
    student = row.first['student']
    cost = student['pretrain_gflop_per_image']
    sd, seconds, tflop = row.statistics.sd, row.pretrain_seconds, row.pretrain_tflop
    cells = {
        'student': row.student,
        'method_version': student['method_version'] or '',
        'teachers': '; '.join(teacher.get('family', '?') for teacher in student['teachers']),
        'task': row.task,
        'metric': row.metric,
        'pool': row.pool,
        'mean': f'{row.statistics.mean:.2f}',
        'sd': '' if sd is None else f'{sd:.2f}',
        'n': row.statistics.n,
        'seeds': '; '.join(f'{p}/{s}' for p, s in row.values),
        'values': '; '.join(f'{value:.2f}' for value in row.values.values()),
        'pretrain_seconds': '' if seconds is None else f'{seconds:.1f}',
        'pretrain_gflop_per_image': '' if cost is None else f'{cost:.3g}',
        'pretrain_tflop': '' if tflop is None else f'{tflop:.4g}',
        'kind': MEASURED,
        'protocol': protocol['name'],
        'protocol_version': protocol['version'],
        'device': environment['device'],
        'cpu': environment.get('cpu', ''),
        'torch': environment['versions'].get('torch', ''),
    }
    return {column: str(value) for column, value in cells.items()}


def read_table(path: str | os.PathLike[str]) -> list[Cells]:
    """The rows of a table that is there, ``[]`` without one; columns it lacks are blank.

    Raises:
        ValueError: a column that is not one of the study's.
    """
    if not Path(path).is_file():
        return []
    with open(path, newline='', encoding='utf-8') as stream:
        reader = csv.DictReader(stream)
        names = reader.fieldnames or ()
        if unknown := [name for name in names if name not in COLUMNS]:
            raise ValueError(
                f'{path}: unknown column {unknown[0]!r}; expected {", ".join(COLUMNS)}'
            )
        return [{column: row.get(column) or '' for column in COLUMNS} for row in reader]


def complete(old: Iterable[Mapping[str, str]], rows: Sequence[StudyRow]) -> tuple[list[Cells], int]:
    """New rows and the old ones of other students, tasks, metrics and pools, as they were.

    Returns:
        The rows in the order of :func:`comad.leaderboard.study.study_rows`, and how many are old.
    """
    new = [study_cells(row) for row in rows]
    replaced = {_key(cells) for cells in new}
    kept = [dict(cells) for cells in old if _key(cells) not in replaced]
    return sorted([*kept, *new], key=_place), len(kept)


def study_csv(table: Iterable[Mapping[str, str]]) -> str:
    """The table as CSV text; equal rows give equal bytes."""
    stream = io.StringIO()
    writer = csv.DictWriter(stream, COLUMNS, lineterminator='\n')
    writer.writeheader()
    writer.writerows(table)
    return stream.getvalue()


def _key(cells: Mapping[str, str]) -> tuple[str, ...]:
    return tuple(cells[column] for column in KEY)


def _place(cells: Mapping[str, str]) -> tuple[int, str, str, str]:
    tasks = list(TASKS)
    known = tasks.index(cells['task']) if cells['task'] in tasks else len(tasks)
    return (known, cells['metric'], cells['pool'], cells['student'])
