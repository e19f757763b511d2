"""The rows of a table as documents show them; Markdown and LaTeX differ in the marking alone."""

from collections.abc import Sequence
from dataclasses import dataclass

from comad.leaderboard.tables import PUBLISHED, Row
from comad.leaderboard.text import shared_ranks

HEADINGS = ('rank', 'method', 'student', 'teachers', 'protocol', 'metric')


@dataclass(frozen=True)
class ShownRow:
    """One row: entries by heading, its figure in parts, and what it rests on.

    Attributes:
        entries: Text under every heading of ``HEADINGS``; a rank that is shared ends in ``=``.
        section: Equal for rows that stand together: a group's, or all published ones.
        value: Mean in percent; ``sd`` and ``n`` are '' where there are none.
        source: Of a published row the source and the kind of evidence, else ''.
    """

    entries: dict[str, str]
    section: object
    value: str
    sd: str
    n: str
    source: str

    @property
    def published(self) -> bool:
        return self.section == PUBLISHED


def shown_rows(rows: Sequence[Row]) -> list[ShownRow]:
    """Return the rows in the table's order: measured ones by group, then published ones."""
    shared = shared_ranks(rows)
    shown = []
    for row in rows:
        cells = row.cells
        published = cells['kind'] == PUBLISHED
        tie = '=' if (row.group, cells['rank']) in shared else ''
        protocol = f'{cells["protocol"]} v{cells["protocol_version"]}'.removesuffix(' v')
        pool = f' ({cells["pool"]})' if cells['pool'] else ''
        entries = {
            'rank': cells['rank'] + tie,
            'method': cells['method'],
            'student': cells['student'] or ('not stated' if published else ''),
            'teachers': cells['teachers'],
            'protocol': protocol or ('not stated' if published else ''),
            'metric': cells['metric'] + pool,
        }
        source = f'{cells["source"]} ({cells["evidence"]})' if published else ''
        section = PUBLISHED if published else row.group
        shown.append(ShownRow(entries, section, cells['value'], cells['sd'], cells['n'], source))
    return shown
