"""Rows of a leaderboard as the page shows them: groups, ranks with ties, facts for the details."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from comad.leaderboard.build import Leaderboards
from comad.leaderboard.published import PublishedRow
from comad.leaderboard.tables import MEASURED, PUBLISHED, Row
from comad.report.facts import Facts, short, student_facts, words
from comad.runs.record import Record

NOT_STATED = 'not stated'


@dataclass
class Line:
    """One row; texts are shown, numbers sorted by.

    Attributes:
        rank: '' where the row is not ranked, '1=' where it shares the rank.
        best: whether it has the first rank among several.
        uncertainty: ' ± sd (n = ..)' as far as they are known.
        facts: names and texts of all that is known beside the columns.
    """

    cells: dict[str, str]
    rank: str
    best: bool
    uncertainty: str
    gflops: str
    images_per_second: str
    facts: Facts
    records: list[Record] = field(default_factory=list)
    row: Row | None = None

    @property
    def measured(self) -> bool:
        """Whether the suite has measured it."""
        return self.cells['kind'] == MEASURED


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
    """A table: its groups, measured ones first."""

    name: str
    groups: list[Group]

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


def make_boards(boards: Leaderboards, published: Sequence[PublishedRow] = ()) -> list[Board]:
    """Return every table of ``boards`` for the page; ``published`` adds the notes of its rows."""
    records = {record.file: record for record in boards.records}
    return [
        Board(name, [*_measured(rows, records), *_published(rows, published)])
        for name, rows in boards.tables.items()
    ]


def _measured(rows: Sequence[Row], records: dict[str, Record]) -> list[Group]:
    members: dict[tuple[str, ...], list[Row]] = {}
    for row in rows:
        if row.cells['kind'] == MEASURED:
            members.setdefault(row.group, []).append(row)
    groups = []
    for (kind, dataset, split, _, metric, pool, *_), own in members.items():
        cells = own[0].cells
        protocol = f'{cells["protocol"]} v{cells["protocol_version"]}'
        where = f'{kind.replace("_", " ")}, {dataset} {split}' + (f', {pool} pool' if pool else '')
        ranks = Counter(row.cells['rank'] for row in own)
        lines = [_line(row, ranks, records) for row in own]
        fields = _protocol(lines[0].records)
        groups.append(Group(MEASURED, where, metric, protocol, fields, lines))
    return groups


def _line(row: Row, ranks: Counter[str], records: dict[str, Record]) -> Line:
    cells = row.cells
    own = [records[file] for file in cells['records'].split('; ') if file in records]
    rank = cells['rank'] + ('=' if cells['rank'] and ranks[cells['rank']] > 1 else '')
    ranked = sum(count for place, count in ranks.items() if place)
    spread = f' ± {cells["sd"]}' if cells['sd'] else ''
    uncertainty = f'{spread} (n = {cells["n"]})'
    return Line(
        cells,
        rank,
        cells['rank'] == '1' and ranked > 1,
        uncertainty,
        short(row.details['gflops']),
        short(row.details['images_per_second']),
        student_facts(row, own),
        own,
        row,
    )


def _published(rows: Sequence[Row], entries: Sequence[PublishedRow]) -> list[Group]:
    keys = ('method', 'student', 'dataset', 'metric', 'value', 'source', 'evidence')
    notes = {tuple(e[key] for key in keys): e['note'] for _, e in entries}
    members: dict[tuple[str, str], list[Line]] = {}
    for row in rows:
        if row.cells['kind'] != PUBLISHED:
            continue
        cells, dataset = row.cells, row.group[1]
        note = notes.get(tuple({**cells, 'dataset': dataset}[key] for key in keys), '')
        names = ('source', 'evidence', 'protocol', 'resolution', 'student', 'heads', 'params_m')
        names += ('teachers', 'pretrain_data', 'pretrain_epochs')
        facts = [(words(name), cells[name] or NOT_STATED) for name in names]
        facts += [('note', note)] if note else []
        facts.append(('why no rank', 'the source does not state its whole protocol'))
        line = Line(cells, '', False, '', '', '', facts, row=row)
        members.setdefault((dataset, cells['metric']), []).append(line)
    return [
        Group(PUBLISHED, f'published figures, {dataset}', metric, '', [], lines)
        for (dataset, metric), lines in members.items()
    ]


def _protocol(records: Sequence[Record]) -> Facts:
    if not records:
        return []
    protocol = records[0].data['protocol']
    known = [('name', protocol['name']), ('version', str(protocol['version']))]
    fields = sorted(protocol['fields'].items())
    return known + [
        (words(name), 'unknown' if value is None else str(value)) for name, value in fields
    ]
