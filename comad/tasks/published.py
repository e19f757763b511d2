"""Published protocols, one fact per row, each with its source."""

import csv
import os
from typing import NamedTuple

from comad.runs.place import FILES

PROTOCOLS = FILES / 'results' / 'published_protocols.csv'
COLUMNS = ['protocol', 'field', 'value', 'source']


class Stated(NamedTuple):
    """A value as its source states it."""

    value: str
    source: str


def read_protocols(path: str | os.PathLike[str] = PROTOCOLS) -> dict[str, dict[str, Stated]]:
    """Published protocols by name; a field that is absent is one that the sources do not state.

    Raises:
        ValueError: other columns, a blank entry or a field stated twice; the message names the
            line.
    """
    protocols: dict[str, dict[str, Stated]] = {}
    with open(path, newline='', encoding='utf-8') as stream:
        reader = csv.reader(stream)
        if next(reader, None) != COLUMNS:
            raise ValueError(f'{path}: expected the columns {", ".join(COLUMNS)}')
        for row in reader:
            if len(row) != len(COLUMNS) or not all(entry.strip() for entry in row):
                raise ValueError(f'{path}, line {reader.line_num}: expected {len(COLUMNS)} entries')
            name, field, value, source = row
            fields = protocols.setdefault(name, {})
            if field in fields:
                raise ValueError(f'{path}, line {reader.line_num}: {name} states {field} twice')
            fields[field] = Stated(value, source)
    return protocols


def agree(effective: object, stated: str) -> bool:
    """Whether two values are the same text or the same number."""
    try:
        return abs(float(str(effective)) - float(stated)) <= 1e-9 * abs(float(stated))
    except ValueError:
        return str(effective) == stated
