"""The two tables in docs/results.md that are made from results/, between markers."""

import re
from collections.abc import Mapping, Sequence
from decimal import ROUND_HALF_UP, Decimal
from itertools import groupby
from pathlib import Path

from backbones.files import write_text
from comad.leaderboard.markdown import DASH, escape, figure, markdown_table
from comad.leaderboard.shown import ShownRow, shown_rows
from comad.leaderboard.study import Cells
from comad.leaderboard.tables import MIN_SEEDS, Row, Statistics, is_tie
from comad.tasks.task import TASKS

PAGE = Path('docs/results.md')
STUDY = Path('results/sample_study.csv')
# Heading -> task, metric and pool of the study's rows.
STUDY_COLUMNS = {
    heading: (task.kind, *column)
    for task in TASKS.values()
    for heading, column in task.study.items()
}
# Heading -> column of the study and the unit its figure is rounded to.
STUDY_COSTS = {
    'GFLOP / image': ('pretrain_gflop_per_image', '0.01'),
    'TFLOP': ('pretrain_tflop', '0.1'),
    's': ('pretrain_seconds', '1'),
}
DECIDING = 'linear, mean'
EARLIER = '†'
NOTHING_MEASURED = 'Nothing has been measured at full scale yet.'


def rewrite(path: Path, blocks: Mapping[str, str]) -> bool:
    """Put each block between its markers; return whether the file changed.

    It is written atomically, and only if its text changes.

    Raises:
        ValueError: If a marker is missing, doubled or on the wrong side; nothing is written.
    """
    old = path.read_text(encoding='utf-8')
    new = old
    for name, body in blocks.items():
        new = replace_block(new, name, body, path)
    if new == old:
        return False
    write_text(path, new)
    return True


def replace_block(text: str, name: str, body: str, where: object = PAGE) -> str:
    """Return the text with ``body`` between ``<!-- name:begin -->`` and ``<!-- name:end -->``."""
    markers = [f'<!-- {name}:{side} -->' for side in ('begin', 'end')]
    for marker in markers:
        if (count := text.count(marker)) != 1:
            raise ValueError(f'{where} holds {marker} {count} times; needed once, or --no-docs')
    begin, end = (text.index(marker) for marker in markers)
    if end < begin:
        raise ValueError(f'{where} holds {markers[1]} before {markers[0]}')
    return f'{text[: begin + len(markers[0])]}\n{body}\n{text[end:]}'


def leaderboard_block(tables: Mapping[str, Sequence[Row]]) -> str:
    """Return the full-scale tables, compact: one line per row of equal source, all its metrics."""
    shown = {name: shown_rows(rows) for name, rows in tables.items()}
    measured = [row for rows in shown.values() for row in rows if not row.published]
    parts = []
    if measured:
        headings = ['rank', 'method', 'student', 'protocol', 'metric', 'value', 'n']
        names = ('rank', 'method', 'student', 'protocol', 'metric')
        lines = [
            [*(escape(r.entries[n]) for n in names), figure(r.value, r.sd), r.n] for r in measured
        ]
        parts.append(markdown_table(headings, lines))
    else:
        parts.append(NOTHING_MEASURED)
    for name, rows in shown.items():
        published = [row for row in rows if row.published]
        if published:
            parts += [
                f'<details><summary>Published figures, {name}: {len(published)}, in percent, '
                f'never ranked</summary>',
                markdown_table(
                    ['method', 'student', 'protocol', 'figures', 'source (evidence)'],
                    _published_lines(published),
                ),
                '</details>',
            ]
    return '\n\n'.join(parts)


def study_block(rows: Sequence[Cells]) -> str:
    """Return the study as one line per student; those of one network size and budget together.

    Bold is a figure that no other of its column, size and budget ties with, over rows with n of 3
    or more that were measured under one protocol. A student without a figure has a dash. The last
    columns are the cost of one pretraining, teachers included.
    """
    if not rows:
        return 'The study has not been run yet.'
    table: dict[str, dict[tuple[str, ...], Cells]] = {}
    for row in rows:
        table.setdefault(row['student'], {})[row['task'], row['metric'], row['pool']] = row
    current = _current_protocols(rows)
    bold = {
        (student, heading)
        for size in _sizes(table)
        for heading, key in STUDY_COLUMNS.items()
        if key in current
        for student in _best(
            {s: table[s][key] for s in size if _protocol(table[s].get(key)) == current[key]}
        )
    }
    lines, earlier = [], False
    for student in (student for size in _sizes(table) for student in size):
        own = table[student]
        entries = [_first(own, 'teachers').replace(';', ',') or DASH]
        for heading, key in STUDY_COLUMNS.items():
            cells = own.get(key)
            entry = study_figure(cells, (student, heading) in bold)
            if cells and _protocol(cells) != current[key]:
                entry, earlier = entry + EARLIER, True
            entries.append(entry)
        costs = [_round(_first(own, name), unit) for name, unit in STUDY_COSTS.values()]
        lines.append([f'`{student}`', *entries, *(cost or DASH for cost in costs)])
    text = markdown_table(['student', 'teachers', *STUDY_COLUMNS, *STUDY_COSTS], lines)
    if earlier:
        text += f'\n\n{EARLIER} under an earlier version of the protocol: not to be compared.'
    return text


def _protocol(cells: Cells | None) -> tuple[str, int] | None:
    return cells and (cells['protocol'], int(cells['protocol_version'] or 0))


def _current_protocols(rows: Sequence[Cells]) -> dict[tuple[str, ...], tuple[str, int]]:
    """Task, metric and pool -> the newest protocol that any student was measured under."""
    newest: dict[tuple[str, ...], tuple[str, int]] = {}
    for cells in rows:
        key, found = (cells['task'], cells['metric'], cells['pool']), _protocol(cells)
        if key not in newest or found[1] > newest[key][1]:
            newest[key] = found
    return newest


def _published_lines(rows: Sequence[ShownRow]) -> list[list[str]]:
    names = ('method', 'student', 'protocol')
    merged: dict[tuple[str, ...], list[str]] = {}
    for row in rows:
        key = (*(escape(row.entries[name]) for name in names), escape(row.source))
        merged.setdefault(key, []).append(f'{escape(row.entries["metric"])} {row.value}')
    return [[*key[:3], ', '.join(figures), key[3]] for key, figures in merged.items()]


def _sizes(table: Mapping[str, Mapping[tuple[str, ...], Cells]]) -> list[list[str]]:
    """Students of one size and budget together, the largest group first, its best first."""

    def place(student: str) -> tuple[float, str]:
        cells = table[student].get(STUDY_COLUMNS[DECIDING])
        return (-float(cells['mean']) if cells else 0.0, student)

    by_size = sorted(table, key=_size)
    sizes = [sorted(students, key=place) for _, students in groupby(by_size, key=_size)]
    return sorted(sizes, key=lambda students: (-len(students), _size(students[0])))


def _size(student: str) -> tuple[str, str]:
    """Network size, and ``equal4`` of a student that was trained at another's cost."""
    found = re.search(r'_(equal\d+)_', student)
    return found[1] if found else '', student.rpartition('_')[2]


def _best(column: Mapping[str, Cells]) -> list[str]:
    """The student that is ahead of all others beyond a tie; none or one."""
    figures = {
        student: Statistics(float(cells['mean']), float(cells['sd']), int(cells['n']))
        for student, cells in column.items()
        if cells['sd'] and int(cells['n'] or 0) >= MIN_SEEDS
    }
    if len(figures) < 2:
        return []
    first, *others = sorted(figures, key=lambda student: -figures[student].mean)
    tied = any(is_tie(figures[first], figures[student]) for student in others)
    return [] if tied else [first]


def study_figure(cells: Cells | None, bold: bool = False) -> str:
    """Return mean, sd and n of a row as the page shows them; a dash without a row."""
    if cells is None:
        return DASH
    text = figure(_round(cells['mean'], '0.1'), _round(cells['sd'], '0.1'))
    text = f'**{text}**' if bold else text
    return f'{text} ({cells["n"]})' if cells['n'] else text


def _round(text: str, unit: str) -> str:
    """A decimal text rounded as by hand: 2.15 to 2.2, which no binary float would do."""
    return str(Decimal(text).quantize(Decimal(unit), ROUND_HALF_UP)) if text else ''


def _first(rows: Mapping[tuple[str, ...], Cells], column: str) -> str:
    return next((cells[column] for cells in rows.values() if cells.get(column)), '')
