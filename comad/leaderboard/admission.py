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

from pandas import DataFrame

from comad.data.identity import slug
from comad.runs.place import get_track, split_equal
from comad.runs.record import Record, RecordError, Records, read_records, refusal
from comad.tasks.recording import check_task
from comad.tasks.task import TASKS

NAMED = 3


def read_admitted(
    directory: str | os.PathLike[str], track: str | None = None, data: str = ''
) -> Records:
    """Read a folder of records; refused are also those of no known task, and copies of a run.

    Args:
        directory: The folder.
        track: Of which track the tables are; a record without a place there is refused.
        data: Of which data of one's own they are; '' for the public sets.
    """
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
    accepted = [record for record in accepted if record.file not in twice]
    if track is not None:
        reasons = {record.file: out_of_place(record, track, data) for record in accepted}
        refused += [f'{file}: {reason}' for file, reason in reasons.items() if reason]
        accepted = [record for record in accepted if not reasons[record.file]]
    return Records(accepted, refused)


def out_of_place(record: Record, track: str, data: str = '') -> str:
    """Return why a record has no place in the tables of that track, '' if it has one.

    What a table is of is decided by the data that were read, not by what a run was told.
    """
    scale = get_track(track).title
    scale += f' on data {data}' if data else ''
    if record.track != track:
        return f'a record of {_title(record.track)} in a folder of {scale}'
    task, tested, train = TASKS[record.task], record.dataset, record.train_dataset
    expected = data or task.dataset_name(track)
    for what, read in (('evaluated', tested), ('trained', train)):
        if read is not None and (slug(read.name) if data else read.name) != expected:
            return (
                f'{what} on {read.name!r} ({read.classes:,} classes, {read.images:,} images), not '
                f'on {expected!r}: in no table of {scale}'
            )
    if tested.split != task.split or tested.subset:
        part = f'{tested.split!r}' + (f' ({tested.subset})' if tested.subset else '')
        return f'evaluated on {part}, not on all of {task.split!r}: in no table of {scale}'
    if train is not None and train.split == tested.split:
        return f'trained on {tested.split!r}, which is evaluated: in no table of {scale}'
    return ''


def _title(track: str) -> str:
    """What a track is called; one whose folder is not here is known by its name alone."""
    try:
        return get_track(track).title
    except ValueError:
        return f'the track {track}'


def duplicates(records: Iterable[Record]) -> dict[str, str]:
    """Return file -> reason for every record of a run that is there more than once.

    One file of weights belongs to one pretraining, one checkpoint to one evaluation of a task, and
    one config and seed to one run. Which of two is the copy cannot be told: both are refused. A
    pretraining of equal compute that takes as many epochs as the method's own is the same one.
    """
    owners: dict[Hashable, list[tuple[Hashable, str, str]]] = defaultdict(list)
    for record in records:
        student, seeds, task, file = record.student, record.seeds, record.task, record.file
        own, config = student.name, student.config_digest
        if config:
            own = f'{split_equal(student.method)[0]}_{student.arch}'
        if digest := student.sha256:
            who = f'{student.name} of pretraining seed {seeds.pretrain}'
            run = own, seeds.pretrain, config
            owners['one student file (same sha256)', digest].append((run, who, file))
        if digest := record.checkpoint.sha256:
            run = file.replace(student.name, own), config
            owners['one checkpoint (same sha256)', task, digest].append((run, file, file))
        transfer = record.config.digest, seeds.transfer
        owners['one config and seed (same digest)', task, transfer].append((file, file, file))
    reasons: dict[str, str] = {}
    for (what, *_), members in owners.items():
        if len({run for run, *_ in members}) > 1:
            names = sorted({name for _, name, _ in members})
            told = ' and '.join(names) if len(names) == 2 else _listed(names)
            for *_, file in members:
                reasons.setdefault(file, f'{told} share {what}')
    return dict(sorted(reasons.items()))


def notes(figures: DataFrame) -> list[str]:
    """Return a line per reason why records are not ranked, or apart from others of their task.

    Args:
        figures: What `comad.leaderboard.tables.figures` returns.
    """
    runs = figures.drop_duplicates('file')
    reasons = {
        record.file: [*(f'no {key} ({why})' for key, why in record.missing.items()), *questions]
        for record, questions in zip(runs['record'], runs['questions'], strict=True)
    }
    lines = group_by_reason(reasons)
    for (kind, setting), same in runs.groupby(['task', 'setting'])['record']:
        fields = DataFrame([record.protocol.fields for record in same], dtype=object).map(str)
        if differing := [key for key in sorted(fields) if fields[key].nunique() > 1]:
            name, _, version = setting.rpartition(' ')
            lines.append(
                f'{TASKS[kind].table}: protocol {name} version {version} of {kind} was run with '
                f'different {", ".join(differing)}; such rows are ranked apart'
            )
    for kind, same in runs.groupby('task')['record']:
        manifests = sorted({record.manifest for record in same} - {None})
        if len(manifests) > 1:
            lines.append(
                f'{kind}: records cite {len(manifests)} data manifests, '
                f'{", ".join(digest[:12] for digest in manifests)}: such rows are ranked apart'
            )
    return lines


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
