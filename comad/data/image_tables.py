"""Lists of paths, and CSV files with the columns path, label and perhaps split."""

import csv
import hashlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from comad.data.index import Columns
from comad.data.manifest import digest_lines
from comad.data.shards import read_lines

LISTS, CSVS = ('.txt', '.lst'), ('.csv',)
SPLITS = {
    **dict.fromkeys(('train', 'training', 'train2017'), 'train'),
    **dict.fromkeys(('val', 'valid', 'validation', 'val2017'), 'val'),
    **dict.fromkeys(('test', 'testing', 'test2017'), 'test'),
}


def read_tables(tables: Mapping[str, Path]) -> Columns:
    """What lists and CSV files name: paths, labels, splits and a digest over names and sizes.

    Args:
        tables: split -> file; under '' a file that tells the split of each image itself.

    Returns:
        ``paths`` (N,) bytes as written, ``labels`` (N,) str, '' in lists, ``splits`` (N,) int8 into
        train, val, test, and ``digest``.

    Raises:
        ValueError: a file that is none, no image, or one named twice, with file and line.
    """
    paths: list[bytes] = []
    labels: list[str] = []
    splits: list[int] = []
    entries: list[tuple[str, int, str | None]] = []
    seen: dict[str, str] = {}
    for split, table in tables.items():
        labelled = table.suffix.lower() in CSVS
        for row in _rows_of(table) if labelled else _lines_of(table):
            place, where = os.fsencode(row['path']), f'{table}, line {row["line"]}'
            full = os.path.join(table.parent, row['path'])
            if not os.path.isfile(full):
                missing = 'is no file' if os.path.exists(full) else 'does not exist'
                raise ValueError(f'{where}: {row["path"]} {missing}, seen from {table.parent}')
            size = os.stat(full).st_size
            before = seen.setdefault(os.path.normpath(full), where)
            if labelled and before != where:
                raise ValueError(
                    f'{where}: {row["path"]} is in {before} too; an image has one label and split'
                )
            number = ('train', 'val', 'test').index(split or SPLITS[row['split']])
            paths.append(place)
            labels.append(row['label'])
            splits.append(number)
            entries.append((row['path'], size, None))
        content = table.read_bytes()
        entries.append((table.name, len(content), hashlib.sha256(content).hexdigest()))
    if not paths:
        raise ValueError(f'{next(iter(tables.values()))}: names no images')
    return {
        'paths': np.array(paths, dtype=bytes),
        'labels': np.array(labels, dtype=str),
        'splits': np.array(splits, dtype=np.int8),
        'digest': np.array(digest_lines(entries)),
    }


def _lines_of(table: Path) -> list[dict[str, Any]]:
    lines = enumerate(read_lines(table), start=1)
    return [{'path': line, 'label': '', 'split': 'train', 'line': n} for n, line in lines]


def _rows_of(table: Path) -> list[dict[str, Any]]:
    """Rows of a CSV with the columns path, label and perhaps split."""
    with table.open(newline='', encoding='utf-8-sig') as file:
        try:
            reader = csv.DictReader(file, strict=True)
            columns = [(name or '').strip().lower() for name in reader.fieldnames or ()]
            reader.fieldnames = columns
            if not {'path', 'label'} <= set(columns):
                shown = ','.join(columns) or 'nothing'
                raise ValueError(
                    f'{table}: begins with {shown}; expected the columns path,label, and commas '
                    'between them'
                )
            rows = []
            for row in reader:
                label, split = (row.get('label') or '').strip(), (row.get('split') or 'train')
                where = f'{table}, line {reader.line_num}'
                if not label or not (row['path'] or '').strip():
                    raise ValueError(f'{where}: the {"path" if label else "label"} is empty')
                if not label.isprintable():
                    raise ValueError(f'{where}: the label {label!r} is no text of one line')
                if (split := split.strip().lower()) not in SPLITS:
                    raise ValueError(f'{where}: split {split!r}; expected train, val or test')
                path = row['path'].strip()
                rows.append(dict(path=path, label=label, split=split, line=reader.line_num))
        except (csv.Error, UnicodeDecodeError) as error:
            raise ValueError(f'{table}: is no CSV in UTF-8 ({error}): save it as such') from None
    return rows
