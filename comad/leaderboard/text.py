"""The tables as text for a terminal."""

from collections.abc import Iterable, Sequence

from comad.leaderboard.tables import PUBLISHED, Row

HEADINGS = ('rank', 'method', 'student', 'protocol', 'pool', 'metric', 'value', 'n', 'evidence')
MAX_WIDTH = 28


def format_table(title: str, rows: Sequence[Row]) -> str:
    """Return a compact table: measured rows by group, published ones after them.

    ``value`` is the mean in percent with its sd over n seeds; a shared rank is marked ``=``.
    """
    if not rows:
        return f'{title}: no rows yet'
    shared = shared_ranks(rows)
    lines: list[tuple[str, ...]] = []
    breaks: set[int] = set()
    previous: object = None
    for row in rows:
        section = PUBLISHED if row.cells['kind'] == PUBLISHED else row.group
        if previous is not None and section != previous:
            breaks.add(len(lines))
        previous = section
        lines.append(_line(row, shared))
    widths = [max(len(line[i]) for line in (HEADINGS, *lines)) for i in range(len(HEADINGS))]
    text = [title, _join(HEADINGS, widths), _join(['-' * width for width in widths], widths)]
    for number, line in enumerate(lines):
        if number in breaks:
            text.append('')
        text.append(_join(line, widths))
    return '\n'.join(text)


def _line(row: Row, shared: set[tuple[tuple[str, ...], str]]) -> tuple[str, ...]:
    cells = row.cells
    rank = cells['rank'] + ('=' if (row.group, cells['rank']) in shared else '')
    value = cells['value'] + (f' +- {cells["sd"]}' if cells['sd'] else '')
    entries = {**cells, 'rank': rank or '-', 'value': value}
    entries['evidence'] = cells['evidence'] or cells['kind']
    if cells['kind'] == PUBLISHED:
        for name in ('student', 'protocol'):
            entries[name] = cells[name] or 'not stated'
    return tuple(_clip(entries[heading]) for heading in HEADINGS)


def shared_ranks(rows: Iterable[Row]) -> set[tuple[tuple[str, ...], str]]:
    """Return (group, rank) of every rank that several rows share."""
    seen: set[tuple[tuple[str, ...], str]] = set()
    shared = set()
    for row in rows:
        if row.cells['rank']:
            key = (row.group, row.cells['rank'])
            (shared if key in seen else seen).add(key)
    return shared


def _clip(text: str) -> str:
    return text if len(text) <= MAX_WIDTH else text[: MAX_WIDTH - 3] + '...'


def _join(entries: Iterable[str], widths: Sequence[int]) -> str:
    return '  '.join(e.ljust(w) for e, w in zip(entries, widths, strict=True)).rstrip()
