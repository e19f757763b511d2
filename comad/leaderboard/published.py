"""Published figures, each with its source and the kind of evidence it rests on."""

import csv
import math
import os
from typing import NamedTuple

from comad.runs.place import FILES
from comad.tasks.task import TASKS

PUBLISHED = FILES / 'results' / 'published.csv'
# From a figure read where its authors state it, down to one inferred from other figures.
EVIDENCE = ('abstract', 'repository', 'secondary', 'derived')
COLUMNS = (
    'method',
    'student',
    'heads',
    'params_m',
    'teachers',
    'pretrain_data',
    'pretrain_epochs',
    'task',
    'dataset',
    'protocol',
    'protocol_detail',
    'resolution',
    'metric',
    'value',
    'source',
    'evidence',
    'note',
)
METRICS = tuple(dict.fromkeys(m.name for task in TASKS.values() for m in task.metrics.values()))
REQUIRED = ('method', 'task', 'dataset', 'metric', 'value', 'source', 'evidence')


class PublishedRow(NamedTuple):
    """One published figure; a blank entry means that the source does not say."""

    line: int
    entries: dict[str, str]


class PublishedRows(NamedTuple):
    """The rows of a file of published figures, and one line per refused row."""

    accepted: list[PublishedRow]
    refused: list[str]


def read_published(path: str | os.PathLike[str] = PUBLISHED) -> PublishedRows:
    """Read the published figures; every one needs a source and a kind of evidence.

    Raises:
        ValueError: If the file's columns are not the expected ones.
        FileNotFoundError: If there is no such file.
    """
    with open(path, newline='', encoding='utf-8') as stream:
        reader = csv.DictReader(stream)
        if tuple(reader.fieldnames or ()) != COLUMNS:
            raise ValueError(f'{path}: columns are {reader.fieldnames}, not {list(COLUMNS)}')
        accepted: list[PublishedRow] = []
        refused: list[str] = []
        for entries in reader:
            if reason := _problem(entries):
                refused.append(f'{path}, line {reader.line_num}: {reason}')
            else:
                accepted.append(PublishedRow(reader.line_num, dict(entries)))
    return PublishedRows(accepted, refused)


def _problem(entries: dict[str | None, str | None]) -> str:
    if None in entries or None in entries.values():
        return f'not {len(COLUMNS)} entries'
    if blank := [name for name in REQUIRED if not (entries[name] or '').strip()]:
        return f'{blank[0]} is blank'
    if entries['metric'] not in METRICS:
        return f'unknown metric {entries["metric"]!r}; known are {", ".join(METRICS)}'
    if entries['evidence'] not in EVIDENCE:
        return f'evidence {entries["evidence"]!r} is none of {", ".join(EVIDENCE)}'
    try:
        value = float(entries['value'] or '')
    except ValueError:
        value = math.nan
    if not 0 <= value <= 100:
        return f'value {entries["value"]!r} is no percentage'
    return ''
