"""The tables as JSON: every cell as a typed value, and what a row carries beyond its cells."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from comad.leaderboard.tables import Row

NUMBERS = frozenset(
    ('rank', 'params_m', 'pretrain_epochs', 'pretrain_gflop_per_image', 'pretrain_hours')
    + ('protocol_version', 'heads', 'resolution', 'value', 'sd', 'n')
)
LISTS = frozenset(('teachers', 'records'))


def to_json(tables: Mapping[str, Sequence[Row]]) -> str:
    """Return the tables by name as lists of rows; equal rows give equal text.

    A row has its cells under the columns' names: a number, a text, a list (teachers, records) or
    null for a blank one; a number that a source states in words, such as several head counts,
    stays a text. Beside them ``details``, what a measured row carries and the CSV has no column
    for.
    """
    content = {name: [_row(row) for row in rows] for name, rows in tables.items()}
    return json.dumps(content, indent=1, allow_nan=False, ensure_ascii=False) + '\n'


def _row(row: Row) -> dict[str, Any]:
    cells = {column: _value(column, text) for column, text in row.cells.items()}
    return {**cells, 'details': _sorted(getattr(row, 'details', None) or {})}


def _value(column: str, text: str) -> Any:
    if column in LISTS:
        return text.split('; ') if text else []
    if not text:
        return None
    if column in NUMBERS:
        for kind in (int, float):
            try:
                return kind(text)
            except ValueError:
                continue
    return text


def _sorted(node: Any) -> Any:
    """Details are in no agreed order."""
    if isinstance(node, Mapping):
        return {str(key): _sorted(node[key]) for key in sorted(node, key=str)}
    if isinstance(node, (list, tuple)):
        return [_sorted(value) for value in node]
    return node
