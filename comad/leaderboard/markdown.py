"""The tables as Markdown (GitHub's)."""

import re
from collections.abc import Iterable, Mapping, Sequence

from comad.leaderboard.shown import HEADINGS, ShownRow, shown_rows
from comad.leaderboard.tables import Row

DASH = '–'
SPECIAL = re.compile(r'[\\|*<>`~$\[\]]|(?<![^\W_])_|_(?![^\W_])')


def to_markdown(tables: Mapping[str, Sequence[Row]]) -> str:
    """Return all tables as one document; equal rows give equal text."""
    parts = [
        '# Leaderboard',
        'Made by `python tools/leaderboard.py --format markdown`. Figures in percent, mean ± sd '
        'over n seeds. Ranks exist inside a group of equal task, data, metric and protocol; `=` '
        'marks a tie. Published figures are not ranked.',
    ]
    for name, rows in tables.items():
        parts.append(f'## {name.capitalize()}')
        shown = shown_rows(rows)
        measured = [row for row in shown if not row.published]
        published = [row for row in shown if row.published]
        if not rows:
            parts.append('No rows yet.')
        if measured:
            headings = [*HEADINGS, 'value', 'n']
            parts.append(markdown_table(headings, [[*_line(r), r.n] for r in measured]))
        if published:
            parts.append('Published:')
            headings = [*HEADINGS[1:], 'value', 'source (evidence)']
            lines = [[*_line(row)[1:], escape(row.source)] for row in published]
            parts.append(markdown_table(headings, lines))
    return '\n\n'.join(parts) + '\n'


def markdown_table(headings: Sequence[str], lines: Iterable[Sequence[str]]) -> str:
    """Return a table; entries are marked up already, blank ones stay blank."""
    rows = [headings, ['---'] * len(headings), *lines]
    return '\n'.join('| ' + ' | '.join(row) + ' |' for row in rows)


def escape(text: str) -> str:
    """Return plain text as Markdown that shows it, on one line and inside one cell."""
    text = ' '.join(text.split()).replace('&', '&amp;')
    return SPECIAL.sub(lambda found: '\\' + found[0], text)


def figure(value: str, sd: str) -> str:
    """Return ``51.00 ± 1.00``, the mean alone without an sd."""
    return f'{value} ± {sd}' if sd else value


def _line(row: ShownRow) -> list[str]:
    entries = [escape(row.entries[heading]) for heading in HEADINGS]
    return [*entries, figure(row.value, row.sd)]
