"""Leaderboard tables: records averaged over seeds, ranked inside their group, published beside.

A group is task, dataset, split, metric, pool and all protocol fields. Ranks exist only inside a
group, for rows with at least three seeds whose records leave no question open (see
`comad.leaderboard.admission`); published figures, whose protocols are never known in full, are
listed but not ranked.

A table is a DataFrame: as text the columns of its CSV, ``COLUMNS``, and beside them what decides a
row's rank and place, ``BESIDE``.
"""

import hashlib
import json
import math
import os
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

import msgspec
from pandas import DataFrame, Series

from backbones.architectures import display_name
from backbones.files import write_text
from comad.leaderboard import cells
from comad.leaderboard.admission import notes, read_admitted
from comad.leaderboard.details import row_details
from comad.leaderboard.gains import paired_gains
from comad.leaderboard.published import PublishedRows, read_published
from comad.runs.place import PUBLISHED_CSV, get_track, results_folder
from comad.runs.questions import open_questions
from comad.runs.record import Record, Student
from comad.runs.track import FULL
from comad.tasks.task import TABLES, TASKS

COLUMNS = (
    *('rank', 'method', 'method_version', 'student', 'heads', 'params_m', 'teachers'),
    *('pretrain_data', 'pretrain_epochs', 'pretrain_gflop_per_image', 'protocol'),
    *('protocol_version', 'pool', 'resolution', 'metric', 'value', 'sd', 'n', 'kind', 'evidence'),
    *('source', 'pretrain_hours', 'records'),
)
# Of the distillation table alone, whose rows are trained with and without a teacher.
GAIN, GAINING = 'gain', 'distillation'
GROUP = ('task', 'dataset', 'split', 'setting', 'metric', 'pool', 'fields', 'data')
# Of a row: its table, group and place; its figure, and whether that may be ranked; what it carries,
# see `row_details`, or its source notes; the number of its group, -1 for published rows; whether
# its rank is shared.
BESIDE = (
    *('table', 'task', 'dataset', 'split', 'setting', 'fields', 'data', 'order', 'descending'),
    *('statistics', 'comparable', 'details', 'note', 'section', 'tie', GAIN),
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
class Leaderboards:
    """The tables by name, the files they belong in, and what has to be said about them.

    ``refused`` names records and published rows that were left out; ``notes`` names what was used
    but cannot be ranked. ``records`` are those that the tables were made of.
    """

    tables: dict[str, DataFrame]
    files: dict[str, Path]
    refused: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    records: list[Record] = field(default_factory=list)


def build_leaderboards(
    track: str = FULL,
    records: str | os.PathLike[str] | None = None,
    out: str | os.PathLike[str] | None = None,
    published: str | os.PathLike[str] = PUBLISHED_CSV,
    data: str = '',
) -> Leaderboards:
    """Build and write the leaderboards; arguments and errors as `make_leaderboards`."""
    boards = make_leaderboards(track, records, out, published, data)
    for name, path in boards.files.items():
        write_text(path, to_csv(boards.tables[name]))
    return boards


def make_leaderboards(
    track: str = FULL,
    records: str | os.PathLike[str] | None = None,
    out: str | os.PathLike[str] | None = None,
    published: str | os.PathLike[str] = PUBLISHED_CSV,
    data: str = '',
) -> Leaderboards:
    """Read, refuse by name, and build the leaderboards in memory.

    Published figures are of the public sets at full scale: other tables hold measured rows alone.

    Args:
        track: The track whose tables to build.
        records: Folder of run records; results/[TRACK/]records by default.
        out: Folder the CSVs belong in; results/[TRACK/] by default.
        published: File of published figures.
        data: Name of the data of one's own that the tables are of; '' for the public sets.

    Raises:
        FileNotFoundError: If ``records`` is given and is no folder, or ``published`` is missing.
        ValueError: If ``published`` has other columns.
    """
    home = results_folder(track, data)
    if records is not None and not Path(records).is_dir():
        raise FileNotFoundError(f'{records} is no folder of run records')
    read = read_admitted(records or home / 'records', track, data)
    stated = PublishedRows(DataFrame(), [])
    if track == FULL and not data:
        stated = read_published(published)
    found = figures(read.accepted)
    files = {name: Path(out or home) / f'leaderboard_{name}.csv' for name in TABLES}
    refused = [*read.refused, *stated.refused]
    tables = build_tables(found, stated.accepted)
    return Leaderboards(tables, files, refused, notes(found), read.accepted)


def figures(records: Iterable[Record]) -> DataFrame:
    """Return one line per figure that a record reports or owes, by the records' file names.

    Beside ``GROUP``: ``table``; ``key``, what the evaluation calls the figure; ``row``, see
    `identity`; ``student``; ``pretrain`` and ``transfer``, the seeds; ``value`` in percent, NaN
    for one that is owed; ``file``, ``record`` and the record's ``questions``.
    """
    lines = []
    for record in sorted(records, key=lambda record: record.file):
        task, protocol = TASKS[record.task], record.protocol
        of_record = {
            'table': task.table,
            'task': record.task,
            'dataset': record.dataset.name,
            'split': record.dataset.split,
            'setting': f'{protocol.name} {protocol.version}',
            'fields': _text(protocol.fields),
            'data': _text(msgspec.to_builtins([record.dataset, record.train_dataset])),
            'row': identity(record.student),
            'student': record.student.name,
            'pretrain': record.seeds.pretrain,
            'transfer': record.seeds.transfer,
            'file': record.file,
            'record': record,
            'questions': open_questions(record),
        }
        for key, metric in task.metrics.items():
            if key in record.metrics or key in record.missing:
                value = metric.percent(record.metrics.get(key, math.nan))
                own = {'key': key, 'metric': metric.name, 'pool': metric.pool, 'value': value}
                lines.append(of_record | own)
    columns = ('table', 'key', 'row', 'student', 'pretrain', 'transfer', 'value')
    return DataFrame(lines, columns=[*GROUP, *columns, 'file', 'record', 'questions'])


def build_tables(found: DataFrame, published: DataFrame | None = None) -> dict[str, DataFrame]:
    """Return every table by name, its rows in order and ranked.

    Args:
        found: `figures` of accepted records, all of one track.
        published: Published figures; those of no task are left out.
    """
    rows = [*_measured(found), *(() if published is None else _published(published))]
    table = DataFrame(rows, columns=[*COLUMNS, *BESIDE]).astype(dict.fromkeys(COLUMNS, str))
    place = ('order', 'metric', *GROUP, 'descending', *COLUMNS)
    table = table.sort_values(list(dict.fromkeys(place)), ignore_index=True)
    section = table.groupby(list(GROUP), sort=False).ngroup()
    table['section'] = section.where(table['kind'] == MEASURED, -1)
    ranks: dict[int, str] = {}
    for _, group in table[table['comparable'].astype(bool)].groupby('section')['statistics']:
        best, first = None, 0
        for number, (line, own) in enumerate(group.items(), start=1):
            # A tie with the best of a rank shares that rank.
            if best is None or not is_tie(best, own):
                best, first = own, number
            ranks[line] = str(first)
    table['rank'] = Series(ranks, dtype=str).reindex(table.index, fill_value='')
    gains = paired_gains(found[found['table'] == GAINING], GROUP)
    table[GAIN] = [gains.get(records, '') for records in table['records']]
    table['tie'] = table.duplicated(['section', 'rank'], keep=False) & (table['rank'] != '')
    return {name: table[table['table'] == name].reset_index(drop=True) for name in TABLES}


def to_csv(table: DataFrame) -> str:
    """Return a table as CSV text; equal rows give equal bytes."""
    return cells.to_csv(table, (*COLUMNS, *own_columns(table)))


def own_columns(table: DataFrame) -> tuple[str, ...]:
    """Return the columns that this table alone has, in every format, behind ``COLUMNS``."""
    return (GAIN,) if (table['table'] == GAINING).any() else ()


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


def noise(first: Statistics, second: Statistics) -> float:
    """Return 2 sqrt(s1^2 / n1 + s2^2 / n2); means that are closer are a tie."""
    return 2 * math.sqrt(first.sd**2 / first.n + second.sd**2 / second.n)


def is_tie(first: Statistics, second: Statistics) -> bool:
    """Return whether two means are equal or closer than `noise`."""
    difference = abs(first.mean - second.mean)
    return difference == 0 or difference < noise(first, second)


def identity(student: Student) -> str:
    """Return what makes two runs seeds of one row: everything about the student but its seed."""
    keys = ('name', 'method', 'method_version', 'arch', 'architecture', 'config_digest', 'data')
    teachers = [[teacher.family, teacher.digest] for teacher in student.teachers]
    return _text(msgspec.to_builtins([*(getattr(student, key) for key in keys), teachers]))


def _measured(found: DataFrame) -> list[dict[str, Any]]:
    run, owed = [*GROUP, 'row'], found['value'].isna()
    several = found.groupby('setting')['fields'].transform('nunique') > 1
    # A seed without this metric would leave the mean to the seeds that went well.
    whole = ~owed.groupby([found[name] for name in run]).transform('any')
    reported = found.assign(several=several, whole=whole)[~owed]
    # Slices of a frame cost more than all else here.
    lines = reported.to_dict('records')
    seeds = reported.groupby(run, sort=False).indices.values()
    return [_row([lines[place] for place in places]) for places in seeds]


def _row(seeds: list[dict[str, Any]]) -> dict[str, Any]:
    own, records = seeds[0], [line['record'] for line in seeds]
    first = records[0]
    student, protocol, task = first.student, first.protocol, TASKS[first.task]
    metric = task.metrics[own['key']]
    values = [(line['pretrain'], line['transfer'], line['value']) for line in seeds]
    if student.sha256 and 'optimizer' not in task.protocol_fields:
        # Without a training nothing depends on the transfer's seed: a repeat is no second figure.
        values = list({value[0]: value for value in reversed(values)}.values())
    stats = statistics(values)
    name = protocol.name
    if own['several']:
        # One name, several settings: told apart by a digest of all fields.
        name += '@' + hashlib.sha256(own['fields'].encode()).hexdigest()[:6]
    questions = list(dict.fromkeys(reason for line in seeds for reason in line['questions']))
    details = row_details(records, questions)
    small = get_track(first.track).stand_ins
    row = {
        'method': student.method,
        'method_version': student.method_version,
        'student': display_name(student.arch, student.architecture, small),
        'heads': details['heads'],
        'params_m': _short(student.params_m),
        'teachers': '; '.join(teacher.family or '?' for teacher in student.teachers),
        'pretrain_data': student.pretrain_data,
        'pretrain_epochs': _short(student.epochs, 6),
        'pretrain_gflop_per_image': _short(student.pretrain_gflop_per_image),
        'protocol': name,
        'protocol_version': protocol.version,
        'resolution': protocol.fields.get('resolution'),
        'value': f'{stats.mean:.2f}',
        'sd': None if stats.sd is None else f'{stats.sd:.2f}',
        'n': stats.n,
        'kind': MEASURED,
        'pretrain_hours': _short(details['pretrain_hours']),
        'records': '; '.join(details['records']),
    }
    row |= {key: own[key] for key in ('table', *GROUP)}
    return _cells(row) | {
        'statistics': stats,
        'order': ORDER[first.task],
        'descending': -stats.mean if metric.higher_is_better else stats.mean,
        'comparable': own['whole'] and not questions and stats.n >= MIN_SEEDS,
        'details': details,
        'note': '',
    }


def _published(rows: DataFrame) -> Iterator[dict[str, Any]]:
    tables = {(task.family, task.dataset): task.table for task in TASKS.values()}
    for entries in rows.to_dict('records'):
        table = tables.get((entries['task'], entries['dataset']))
        if table is None:
            continue
        protocol, detail = entries['protocol'], entries['protocol_detail']
        group = {'task': '', 'split': '', 'setting': protocol, 'pool': '', 'fields': '', 'data': ''}
        shown = f'{protocol} ({detail})' if detail else protocol
        value = float(entries['value'])
        yield _cells({**entries, **group, 'protocol': shown, 'kind': PUBLISHED}) | {
            'table': table,
            'statistics': Statistics(value, None, 1),
            'order': len(ORDER),
            'descending': -value,
            'comparable': False,
            'details': {},
        }


def _cells(row: dict[str, Any]) -> dict[str, Any]:
    """The row with every column of the CSV as text."""
    return row | {c: '' if row.get(c) is None else str(row[c]) for c in COLUMNS}


def _short(value: float | None, digits: int = 3) -> str | None:
    return None if value is None else f'{value:.{digits}g}'


def _text(node: Any) -> str:
    return json.dumps(node, sort_keys=True)
