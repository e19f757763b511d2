"""How a row is admitted: which records are refused, and which are shown but never ranked.

A record that may not be what it says gives no row (`comad.runs.record.read_record`,
`comad.tasks.recording.check_task`, `duplicates`). A record that is sound but leaves a question
open - on what code, data or weights? - gives a row that no other row is ranked against
(`comad.runs.questions`).
"""

import os
from collections import defaultdict
from collections.abc import Hashable, Iterable, Mapping
from pathlib import Path

from comad.runs.record import Record, RecordError, Records, read_records, refusal
from comad.tasks.recording import check_task
from comad.tasks.task import TASKS

NAMED = 3


def read_admitted(directory: str | os.PathLike[str]) -> Records:
    """Read a folder of records; refused are also those of no known task, and copies of a run."""
    found = read_records(directory)
    folder, accepted, refused = Path(directory), [], list(found.refused)
    for record in found.accepted:
        try:
            check_task(record)
            accepted.append(record)
        except RecordError as error:
            refused.append(refusal(folder / record.file, error))
    twice = duplicates(accepted)
    refused += [refusal(folder / file, reason) for file, reason in twice.items()]
    return Records([record for record in accepted if record.file not in twice], refused)


def out_of_place(record: Record, sample: bool) -> str:
    """Return why a record has no place in the tables of that scale, '' if it has one.

    What a table is of is decided by the data that were read, not by what a run was told.
    """
    scale = 'the embedded sample' if sample else 'full scale'
    if record.sample != sample:
        other = 'full scale' if sample else 'the embedded sample'
        return f'a record of {other} in a folder of {scale}'
    task, data, train = TASKS[record.task], record.dataset, record.train_dataset
    expected = task.dataset_name(sample)
    for what, read in (('evaluated', data), ('trained', train)):
        if read is not None and read.name != expected:
            return (
                f'{what} on {read.name!r} ({read.classes:,} classes, {read.images:,} images), not '
                f'on {expected!r}: in no table of {scale}'
            )
    if data.split != task.split or data.subset:
        part = f'{data.split!r}' + (f' ({data.subset})' if data.subset else '')
        return f'evaluated on {part}, not on all of {task.split!r}: in no table of {scale}'
    if train is not None and train.split == data.split:
        return f'trained on {data.split!r}, which is evaluated: in no table of {scale}'
    return ''


def duplicates(records: Iterable[Record]) -> dict[str, str]:
    """Return file -> reason for every record of a run that is there more than once.

    One file of weights belongs to one pretraining, one checkpoint to one evaluation of a task, and
    one config and seed to one run. Which of two is the copy cannot be told: both are refused.
    """
    owners: dict[Hashable, list[tuple[str, str]]] = defaultdict(list)
    for record in records:
        student, seeds, task, file = record.student, record.seeds, record.task, record.file
        if digest := student.sha256:
            who = f'{student.name} of pretraining seed {seeds.pretrain}'
            owners['one student file (same sha256)', digest].append((who, file))
        if digest := record.checkpoint.sha256:
            owners['one checkpoint (same sha256)', task, digest].append((file, file))
        config = (record.config.digest, seeds.transfer)
        owners['one config and seed (same digest)', task, config].append((file, file))
    reasons: dict[str, str] = {}
    for (what, *_), members in owners.items():
        names = sorted({who for who, _ in members})
        if len(names) > 1:
            for _, file in members:
                reasons.setdefault(file, f'{" and ".join(names)} share {what}')
    return dict(sorted(reasons.items()))


def group_by_reason(reasons: Mapping[str, Iterable[str]]) -> list[str]:
    """Return file -> reasons as one line per reason that names its files, three of many."""
    files: dict[str, list[str]] = defaultdict(list)
    for file, lines in reasons.items():
        for line in lines:
            files[line].append(file)
    return [f'{_listed(names)}: {line}; not ranked' for line, names in files.items()]


def _listed(names: list[str]) -> str:
    if len(names) <= NAMED + 1:
        return ', '.join(names)
    return f'{", ".join(names[:NAMED])} and {len(names) - NAMED} more'
