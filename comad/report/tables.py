"""The page's tables: rows of a leaderboard in groups, with all that is known of them, and results
per class."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

from pandas import DataFrame

from backbones.files import read_json
from comad.leaderboard.details import known_mean
from comad.leaderboard.tables import (
    MEASURED,
    MIN_SEEDS,
    ORDER,
    PUBLISHED,
    Leaderboards,
    own_columns,
)
from comad.runs.place import folder_below
from comad.runs.record import Record
from comad.tasks.task import TASKS

NOT_STATED = 'not stated'
NO_FOLDER = 'folder not on this machine'
PER_CLASS = 'per_class.json'
MAX_JSON_BYTES = 1_000_000
Facts = list[tuple[str, str]]


@dataclass
class Line:
    """One row: texts are shown, numbers sorted by.

    Attributes:
        cells: the row of the table, see `comad.leaderboard.tables`.
        facts: names and texts of all that is known beside the columns.
        records: those it is the mean of; none for a published row.
        best: whether it has the first rank among several.
    """

    cells: dict[str, Any]
    facts: Facts
    records: Sequence[Record] = ()
    best: bool = False

    @property
    def measured(self) -> bool:
        """Whether the suite has measured it."""
        return self.cells['kind'] == MEASURED

    @property
    def rank(self) -> str:
        """'' where the row is not ranked, '1=' where it shares the rank."""
        return self.cells['rank'] + ('=' if self.cells['tie'] else '')

    @property
    def uncertainty(self) -> str:
        """' ± sd (n = ..)' as far as they are known."""
        spread = f' ± {self.cells["sd"]}' if self.cells['sd'] else ''
        return spread + (f' (n = {self.cells["n"]})' if self.cells['n'] else '')

    def detail(self, name: str) -> str:
        """A number among the row's details, with three digits."""
        return short(self.cells['details'].get(name))


@dataclass
class Group:
    """Rows that may be compared, with the whole protocol that they share."""

    kind: str
    title: str
    metric: str
    protocol: str
    fields: Facts
    lines: list[Line]


@dataclass
class Board:
    """A table: its groups, measured ones first, and the columns that it alone has."""

    name: str
    groups: list[Group]
    columns: tuple[str, ...] = ()

    @property
    def lines(self) -> list[Line]:
        """All rows of all groups."""
        return [line for group in self.groups for line in group.lines]

    def of(self, kind: str) -> list[tuple[int, Group]]:
        """Groups of measured or of published rows, each with its number in the table."""
        return [(i, group) for i, group in enumerate(self.groups, 1) if group.kind == kind]

    def options(self, name: str) -> list[str]:
        """Metrics or protocols to choose from, in the order of the groups."""
        found = (getattr(group, name) for group in self.groups)
        return list(dict.fromkeys(option for option in found if option))


def make_boards(boards: Leaderboards) -> list[Board]:
    """Return every table for the page."""
    records = {record.file: record for record in boards.records}
    return [
        Board(name, [*_measured(table, records), *_published(table)], own_columns(table))
        for name, table in boards.tables.items()
    ]


def _measured(table: DataFrame, records: dict[str, Record]) -> list[Group]:
    groups = []
    for _, rows in table[table['kind'] == MEASURED].groupby('section'):
        several = sum(rows['rank'] != '') > 1
        lines = []
        for cells in rows.to_dict('records'):
            own = [records[file] for file in cells['details']['records']]
            best = several and cells['rank'] == '1'
            lines.append(Line(cells, row_facts(cells, own), own, best))
        first, protocol = lines[0].cells, lines[0].records[0].protocol
        title = f'{words(first["task"])}, {first["dataset"]} {first["split"]}'
        title += f', {first["pool"]} pool' if first['pool'] else ''
        fields = [('name', protocol.name), ('version', str(protocol.version))]
        for name, value in sorted(protocol.fields.items()):
            fields.append((words(name), 'unknown' if value is None else str(value)))
        shown = f'{first["protocol"]} v{first["protocol_version"]}'
        groups.append(Group(MEASURED, title, first['metric'], shown, fields, lines))
    return groups


def _published(table: DataFrame) -> list[Group]:
    names = ('source', 'evidence', 'protocol', 'resolution', 'student', 'heads', 'params_m')
    names += ('teachers', 'pretrain_data', 'pretrain_epochs')
    groups = []
    rows = table[table['kind'] == PUBLISHED]
    for (dataset, metric), own in rows.groupby(['dataset', 'metric'], sort=False):
        lines = []
        for cells in own.to_dict('records'):
            facts = [(words(name), cells[name] or NOT_STATED) for name in names]
            facts += [('note', cells['note'])] if cells['note'] else []
            facts.append(('why no rank', 'the source does not state its whole protocol'))
            lines.append(Line(cells, facts))
        title = f'published figures, {dataset}'
        groups.append(Group(PUBLISHED, title, metric, '', [], lines))
    return groups


def row_facts(cells: dict[str, Any], records: Sequence[Record]) -> Facts:
    """Return why a row has no rank, its student, teachers, cost, seeds, commits and records.

    Args:
        cells: The row.
        records: The records it is the mean of.
    """
    details, first = cells['details'], records[0]
    student, facts = first.student, []
    if cells['rank'] == '':
        few = [f'fewer than {MIN_SEEDS} seeds'] if cells['statistics'].n < MIN_SEEDS else []
        why = '; '.join([*few, *details['not_ranked']])
        facts.append(('why no rank', why or 'a seed has no figure of this metric'))
    architecture = sorted((student.architecture or {}).items())
    shape = ', '.join(f'{words(name)} {value}' for name, value in architecture)
    facts.append(('architecture', shape or 'unknown'))
    for teacher in student.teachers:
        digest = (teacher.digest or '')[:12] or 'unknown'
        file = f'{teacher.file or "?"}, sha256 {digest}'
        facts.append((f'teacher {teacher.family or "?"}', file))
    epochs = student.epochs
    pretraining = f'{epochs:g} epochs of {student.pretrain_data}' if epochs else 'none'
    facts.append(('pretraining', pretraining))
    if student.images_seen:
        facts.append(('pretraining images', f'{student.images_seen:,}'))
    versions = sorted(first.environment.versions.items())
    facts += [
        ('licence', student.licence or 'unknown'),
        ('device hours of the transfer', short(details['device_hours'])),
        ('wall seconds of the transfer', f'{fmean(r.wall_seconds for r in records):.0f}'),
        ('device', ', '.join(details['devices'])),
        ('seeds (pretraining/transfer)', ', '.join(f'{p}/{s}' for p, s in details['seeds'])),
        ('commit', '; '.join(commits(records))),
        ('versions', ', '.join(f'{name} {version}' for name, version in versions)),
        ('config', '; '.join(details['config_paths'])),
    ]
    digests = {
        'data manifest': details['data_manifests'],
        'students sha256': details['students_sha256'],
        'checkpoints sha256': [checkpoint['sha256'] for checkpoint in details['checkpoints']],
    }
    for name, found in digests.items():
        known = sorted({digest for digest in found if digest})
        facts.append((name, ', '.join(digest[:12] for digest in known) or 'none'))
    return [*facts, ('records', '; '.join(details['records']))]


def commits(records: Iterable[Record]) -> list[str]:
    """Return the commits that records were made from, marked where the tree had changes."""
    found = {(r.environment.git_commit, r.environment.git_dirty) for r in records}
    marks = ((commit or 'unknown', ' with changes' if dirty else '') for commit, dirty in found)
    return sorted({f'{commit[:12]}{mark}' for commit, mark in marks})


def short(value: float | None) -> str:
    """Return a number with three digits, '' for None."""
    if value is None:
        return ''
    return f'{value:.0f}' if abs(value) >= 100 else f'{value:.3g}'


def words(name: str) -> str:
    """Return a key as words."""
    return name.replace('_', ' ')


@dataclass(frozen=True)
class ClassTable:
    """Figures in percent: class -> one entry per student, None where there is none."""

    title: str
    students: list[str]
    rows: dict[str, list[float | None]]


def class_tables(records: Iterable[Record], root: Path) -> tuple[list[ClassTable], list[str]]:
    """Return a table per task and metric, and one line per run that left no figures per class."""
    found: dict[tuple[int, str, str], dict[str, list[dict[str, float | None]]]] = {}
    notes = []
    for record in records:
        if not TASKS[record.task].dense:
            continue
        folder = folder_below(root, record.config.work_dir)
        metrics = {} if folder is None else read_per_class(folder)
        if not metrics:
            why = NO_FOLDER if folder is None else f'no readable {PER_CLASS} in its folder'
            notes.append(f'{Path(record.file).stem}: no results per class: {why}')
        for metric, classes in metrics.items():
            own = found.setdefault((ORDER[record.task], record.task, metric), {})
            own.setdefault(record.student.name, []).append(classes)
    tables = []
    for (_, task, metric), students in sorted(found.items()):
        seeds = [students[name] for name in sorted(students)]
        classes = dict.fromkeys(name for own in seeds for seed in own for name in seed)
        rows = {c: [known_mean(seed.get(c) for seed in own) for own in seeds] for c in classes}
        tables.append(ClassTable(f'{words(task)}, {metric} (%)', sorted(students), rows))
    return tables, notes


def read_per_class(folder: Path) -> dict[str, dict[str, float | None]]:
    """Read metric -> class -> percent from per_class.json; None for a class without a figure.

    The folder may be missing, unreadable or half written: then the answer is empty, and the page
    says so.
    """
    try:
        path = folder / PER_CLASS
        found = read_json(path) if path.stat().st_size <= MAX_JSON_BYTES else {}
        metrics = found['metrics'].items()
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        return {}
    return {
        metric: {name: _percentage(value) for name, value in classes.items()}
        for metric, classes in metrics
        if isinstance(classes, dict)
    }


def _percentage(value: Any) -> float | None:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    return float(value) if math.isfinite(value) and 0 <= value <= 100 else None
