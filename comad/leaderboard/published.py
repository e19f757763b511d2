"""Published figures, each with its source and the kind of evidence it rests on."""

import math
import os
from collections.abc import Mapping
from typing import Any, NamedTuple

from pandas import DataFrame

from comad.leaderboard.cells import read_cells
from comad.runs.place import PUBLISHED_CSV
from comad.tasks.task import TASKS

# From a figure read where its authors state it, down to one inferred from other figures.
EVIDENCE = ('abstract', 'repository', 'secondary', 'derived')
COLUMNS = (
    *('method', 'student', 'heads', 'params_m', 'teachers', 'pretrain_data', 'pretrain_epochs'),
    *('task', 'dataset', 'protocol', 'protocol_detail', 'resolution', 'metric', 'value', 'source'),
    *('evidence', 'note'),
)
METRICS = tuple(dict.fromkeys(m.name for task in TASKS.values() for m in task.metrics.values()))
REQUIRED = ('method', 'task', 'dataset', 'metric', 'value', 'source', 'evidence')


class PublishedRows(NamedTuple):
    """The figures of a file by line, ``COLUMNS`` as text, and one line per refused row.

    A blank entry means that the source does not say.
    """

    accepted: DataFrame
    refused: list[str]


def read_published(path: str | os.PathLike[str] = PUBLISHED_CSV) -> PublishedRows:
    """Read the published figures; every one needs a source and a kind of evidence.

    Raises:
        ValueError: If the file's columns are not the expected ones.
        FileNotFoundError: If there is no such file.
    """
    rows = read_cells(path)
    if tuple(rows.columns) != COLUMNS:
        raise ValueError(f'{path}: columns are {list(rows.columns)}, not {list(COLUMNS)}')
    reasons = {line: _problem(entries) for line, entries in rows.to_dict('index').items()}
    refused = [f'{path}, line {line}: {reason}' for line, reason in reasons.items() if reason]
    return PublishedRows(rows[[not reason for reason in reasons.values()]], refused)


def _problem(entries: Mapping[str, Any]) -> str:
    if not all(isinstance(entry, str) for entry in entries.values()):
        return f'not {len(COLUMNS)} entries'
    if blank := [name for name in REQUIRED if not entries[name].strip()]:
        return f'{blank[0]} is blank'
    if entries['metric'] not in METRICS:
        return f'unknown metric {entries["metric"]!r}; known are {", ".join(METRICS)}'
    if entries['evidence'] not in EVIDENCE:
        return f'evidence {entries["evidence"]!r} is none of {", ".join(EVIDENCE)}'
    try:
        value = float(entries['value'])
    except ValueError:
        value = math.nan
    return '' if 0 <= value <= 100 else f'value {entries["value"]!r} is no percentage'
