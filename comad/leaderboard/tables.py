"""Leaderboard tables: records averaged over seeds, ranked inside their group, published beside.

A group is task, dataset, split, metric, pool and all protocol fields. Ranks exist only inside a
group, for rows with at least three seeds whose records leave no question open (see
`comad.leaderboard.admission`); published figures, whose protocols are never known in full, are
listed but not ranked.
"""

import csv
import hashlib
import io
import json
import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import fmean, stdev
from typing import Any

import msgspec

from backbones.architectures import display_name
from comad.leaderboard.details import known_mean, row_details
from comad.leaderboard.published import PublishedRow
from comad.runs.questions import open_questions
from comad.runs.record import Record
from comad.tasks.task import TASKS, Metric, Task

COLUMNS = (
    'rank',
    'method',
    'method_version',
    'student',
    'heads',
    'params_m',
    'teachers',
    'pretrain_data',
    'pretrain_epochs',
    'pretrain_gflop_per_image',
    'protocol',
    'protocol_version',
    'pool',
    'resolution',
    'metric',
    'value',
    'sd',
    'n',
    'kind',
    'evidence',
    'source',
    'pretrain_hours',
    'records',
)
MEASURED, PUBLISHED = 'measured', 'published'
MIN_SEEDS = 3
ORDER = {kind: number for number, kind in enumerate(TASKS)}


@dataclass(frozen=True)
class Statistics:
    """Mean, standard deviation and number of seeds; sd is None for a single seed."""

    mean: float
    sd: float | None
    n: int


@dataclass
class Row:
    """One row of a table, its group and what decides its rank and place.

    ``details`` of a measured row: see `comad.leaderboard.details.row_details`.
    """

    group: tuple[str, ...]
    cells: dict[str, str]
    statistics: Statistics
    comparable: bool
    higher_is_better: bool = True
    details: dict[str, Any] = field(default_factory=dict)


def statistics(values: Iterable[tuple[int, int, float]]) -> Statistics:
    """Return mean, sd (n - 1 in the denominator) and n of (pretraining seed, transfer seed, value).

    With several pretraining seeds, n counts them and the transfer seeds of each are averaged
    first: repeating a transfer does not make a second pretraining. With one, n counts transfers.
    """
    by_pretraining: dict[int, list[float]] = defaultdict(list)
    for pretrain_seed, _, value in values:
        by_pretraining[pretrain_seed].append(value)
    units = [fmean(repeats) for repeats in by_pretraining.values()]
    if len(units) == 1:
        (units,) = by_pretraining.values()
    return Statistics(fmean(units), stdev(units) if len(units) > 1 else None, len(units))


def is_tie(first: Statistics, second: Statistics) -> bool:
    """Return whether two means are equal or closer than 2 sqrt(s1^2 / n1 + s2^2 / n2)."""
    noise = 2 * math.sqrt(first.sd**2 / first.n + second.sd**2 / second.n)
    difference = abs(first.mean - second.mean)
    return difference == 0 or difference < noise


def build_table(
    name: str, records: Sequence[Record], published: Sequence[PublishedRow] = ()
) -> list[Row]:
    """Return the rows of one table in order, ranks filled in.

    Args:
        name: ``classification``, ``segmentation`` or ``detection``.
        records: Accepted records of all tasks, all of the sample or all of them not.
        published: Published figures; those of no task of this table are left out.
    """
    rows = _measured(name, records)
    groups: dict[tuple[str, ...], list[Row]] = defaultdict(list)
    for row in rows:
        groups[row.group].append(row)
    for members in groups.values():
        rank(members)
    rows.sort(key=_place)
    return rows + sorted(_published(name, published), key=_place)


def rank(rows: Iterable[Row]) -> None:
    """Write the ranks of one group's rows: a tie with the best of a rank shares that rank."""
    eligible = [r for r in rows if r.comparable and r.statistics.n >= MIN_SEEDS]
    eligible.sort(key=lambda r: r.statistics.mean, reverse=True)
    if eligible and not eligible[0].higher_is_better:
        eligible.reverse()
    best, place = None, 0
    for number, row in enumerate(eligible, start=1):
        if best is None or not is_tie(best.statistics, row.statistics):
            best, place = row, number
        row.cells['rank'] = str(place)


def to_csv(rows: Iterable[Row]) -> str:
    """Return the rows as CSV text; equal rows give equal bytes."""
    stream = io.StringIO()
    writer = csv.DictWriter(stream, COLUMNS, lineterminator='\n')
    writer.writeheader()
    writer.writerows(row.cells for row in rows)
    return stream.getvalue()


def identity(student: Mapping[str, Any]) -> str:
    """Return what makes two runs seeds of one row: everything about the student but its seed."""
    keys = ('name', 'method', 'method_version', 'arch', 'architecture', 'config_digest', 'data')
    teachers = [[t.get('family'), t.get('digest')] for t in student.get('teachers') or ()]
    return _text([*(student.get(key) for key in keys), teachers])


def _measured(name: str, records: Sequence[Record]) -> list[Row]:
    variants = _protocol_variants(records)
    runs: dict[tuple[tuple[str, ...], str], list[tuple[Record, float]]] = defaultdict(list)
    incomplete: set[tuple[tuple[str, ...], str]] = set()
    for record in records:
        data = record.data
        task = TASKS[data['task']]
        if task.table != name:
            continue
        for key, metric in task.metrics.items():
            group = _group(record, task, metric)
            run = (group, identity(data['student']))
            if key in data['metrics']:
                runs[run].append((record, metric.percent(data['metrics'][key])))
            elif key in data['missing']:
                incomplete.add(run)
    rows = []
    for run, members in runs.items():
        row = _measured_row(run[0], members, variants)
        # A seed without this metric would leave the mean to the seeds that went well.
        row.comparable = row.comparable and run not in incomplete
        rows.append(row)
    return rows


def _measured_row(
    group: tuple[str, ...],
    members: list[tuple[Record, float]],
    variants: dict[tuple[str, int], set[str]],
) -> Row:
    members = sorted(members, key=lambda member: member[0].file)
    data = [record.data for record, _ in members]
    first, student = data[0], data[0]['student']
    task, fields = TASKS[first['task']], first['protocol']['fields']
    metric = next(m for m in task.metrics.values() if (m.name, m.pool) == (group[4], group[5]))
    seeds = [(d['seeds']['pretrain'], d['seeds']['transfer']) for d in data]
    values = [(p, s, value) for (p, s), (_, value) in zip(seeds, members, strict=True)]
    if student['sha256'] and 'optimizer' not in task.protocol_fields:
        # Without a training nothing depends on the transfer's seed: a repeat is no second figure.
        values = list({p: (p, s, value) for p, s, value in reversed(values)}.values())
    stats = statistics(values)
    protocol = first['protocol']['name']
    if len(variants[protocol, first['protocol']['version']]) > 1:
        # One name, several settings: told apart by a digest of all fields.
        protocol += '@' + hashlib.sha256(_text(fields).encode()).hexdigest()[:6]
    hours = known_mean(d['student']['pretrain_seconds'] for d in data)
    families = (teacher.get('family') or '?' for teacher in student['teachers'])
    cells = {
        'method': student['method'],
        'method_version': student['method_version'],
        'student': display_name(student['arch'], student['architecture'], first['sample']),
        'heads': (student['architecture'] or {}).get('num_heads'),
        'params_m': _short(student['params_m']),
        'teachers': '; '.join(families),
        'pretrain_data': members[0][0].student.pretrain_data,
        'pretrain_epochs': _short(student['epochs'], 6),
        'pretrain_gflop_per_image': _short(student['pretrain_gflop_per_image']),
        'protocol': protocol,
        'protocol_version': first['protocol']['version'],
        'pool': group[5],
        'resolution': fields.get('resolution'),
        'metric': metric.name,
        'value': f'{stats.mean:.2f}',
        'sd': None if stats.sd is None else f'{stats.sd:.2f}',
        'n': stats.n,
        'kind': MEASURED,
        'pretrain_hours': _short(None if hours is None else hours / 3600),
        'records': '; '.join(record.file for record, _ in members),
    }
    questions = list(dict.fromkeys(q for record, _ in members for q in open_questions(record)))
    details = row_details([record for record, _ in members], questions)
    return Row(group, _cells(cells), stats, not questions, metric.higher_is_better, details)


def _published(name: str, published: Iterable[PublishedRow]) -> list[Row]:
    ours = {(t.family, t.dataset) for t in TASKS.values() if t.table == name}
    rows = []
    for _, entries in published:
        if (entries['task'], entries['dataset']) not in ours:
            continue
        cells = {column: entries[column] for column in COLUMNS if column in entries}
        cells['kind'] = PUBLISHED
        if entries['protocol_detail']:
            cells['protocol'] = f'{entries["protocol"]} ({entries["protocol_detail"]})'
        group = ('', entries['dataset'], '', entries['protocol'], entries['metric'], '')
        value = Statistics(float(entries['value']), None, 1)
        rows.append(Row(group, _cells(cells), value, comparable=False))
    return rows


def _group(record: Record, task: Task, metric: Metric) -> tuple[str, ...]:
    protocol = f'{record.protocol.name} {record.protocol.version}'
    read = _text(msgspec.to_builtins([record.dataset, record.train_dataset]))
    names = (task.kind, record.dataset.name, record.dataset.split, protocol)
    return (*names, metric.name, metric.pool, _text(record.protocol.fields), read)


def _protocol_variants(records: Iterable[Record]) -> dict[tuple[str, int], set[str]]:
    variants: dict[tuple[str, int], set[str]] = defaultdict(set)
    for record in records:
        protocol = record.protocol
        variants[protocol.name, protocol.version].add(_text(protocol.fields))
    return variants


def _place(row: Row) -> tuple[Any, ...]:
    kind = ORDER.get(row.group[0], len(ORDER))
    cells = row.cells
    value = -row.statistics.mean if row.higher_is_better else row.statistics.mean
    return (
        kind,
        cells['metric'],
        *row.group,
        value,
        *(cells[column] for column in COLUMNS if column != 'rank'),
    )


def _cells(cells: dict[str, Any]) -> dict[str, str]:
    return {c: '' if cells.get(c) is None else str(cells[c]) for c in COLUMNS}


def _short(value: float | None, digits: int = 3) -> str | None:
    return None if value is None else f'{value:.{digits}g}'


def _text(node: Any) -> str:
    return json.dumps(node, sort_keys=True)
