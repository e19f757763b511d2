"""Run records: one small JSON per finished evaluation, the only source of measured table rows.

A record is written atomically, stays below 8 KB, and carries what its row needs: metrics, the
student's card, the task, every protocol field, seeds, digests, environment and cost. This module
is plain Python: tables are rebuilt without importing torch.
"""

import json
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from comad.datasets.files import atomic_file
from comad.leaderboard.schema import (
    MAX_BYTES,
    SCHEMA,
    SECTIONS,
    RecordError,
    check_record,
    no_figure,
    record_digest,
    record_name,
    task_of,
)
from comad.leaderboard.tasks import Task

MAX_SOURCE_CHARS = 1500


class Record(NamedTuple):
    """A record and the name of the file it was read from."""

    file: str
    data: dict[str, Any]


class Records(NamedTuple):
    """What a folder of records holds: the good ones, and one line per refused file."""

    accepted: list[Record]
    refused: list[str]


def build_record(
    config: Mapping[str, Any],
    metrics: Mapping[str, Any],
    student_card: Mapping[str, Any] | None,
    environment: Mapping[str, Any],
    *,
    wall_seconds: float,
    images_seen: int,
    architecture: Mapping[str, Any] | None = None,
    params_m: float | None = None,
    trained_fields: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Make the record of one finished evaluation.

    A metric that the evaluation did not report, or reported as something that is no figure (an
    empty detection result, NaN, mmdet's -1 for "nothing to find"), is listed under ``missing``
    with the reason; no value is invented for it.

    Args:
        config: The resolved config as plain Python, including ``run`` and ``protocol``.
        metrics: What the evaluation loop returned; a prefix up to the last ``/`` is dropped. Those
            that no table shows are kept under ``other_metrics``.
        student_card: Contents of student.json; None for a student that was never pretrained.
        environment: See ``comad.leaderboard.environment.collect_environment``.
        wall_seconds: Duration of the transfer and its evaluation, in seconds.
        images_seen: Training images that the transfer consumed, all processes together.
        architecture: The backbone's architecture; needed where there is no card.
        params_m: Millions of backbone parameters; needed where there is no card.
        trained_fields: Protocol fields that an earlier run, the training, has settled.

    Raises:
        RecordError: If ``run`` or ``protocol`` is incomplete, the card belongs to another student,
            or the record would not fit into 8 KB.
    """
    run = config.get('run')
    protocol = config.get('protocol')
    if not isinstance(run, Mapping) or not isinstance(protocol, Mapping):
        raise RecordError("the resolved config needs 'run' and 'protocol' to be recorded")
    task = task_of(str(run.get('kind')))
    sample = bool(run.get('sample'))
    values, missing, others = _split_metrics(task, metrics)
    source = str(run.get('source', ''))
    if len(source) > MAX_SOURCE_CHARS:
        source = source[:MAX_SOURCE_CHARS] + ' [...]'
    world_size = int(environment.get('world_size', 1))
    record: dict[str, Any] = {
        'schema': SCHEMA,
        'task': task.kind,
        'dataset': task.dataset_name(sample),
        'split': task.split,
        'sample': sample,
        'protocol': {
            'name': protocol.get('name'),
            'version': protocol.get('version'),
            'fields': {**task.read_protocol(config, world_size), **(trained_fields or {})},
        },
        'metrics': values,
        'missing': missing,
        'other_metrics': others,
        'student': _student(run, student_card, architecture, params_m),
        'seeds': {'pretrain': run.get('pretrain_seed'), 'transfer': run.get('seed')},
        'config': {
            'path': str(run.get('config')),
            'digest': str(run.get('digest')),
            'source': source,
            'work_dir': config.get('work_dir'),
        },
        'environment': dict(environment),
        'wall_seconds': round(float(wall_seconds), 2),
        'images_seen': int(images_seen),
    }
    record['digest'] = record_digest(record)
    check_record(record)
    size = len(_encode(record))
    if size >= MAX_BYTES:
        largest = max(record, key=lambda key: len(json.dumps(record[key])))
        raise RecordError(
            f'the record of {record_name(record)} has {size} bytes, {MAX_BYTES} are the limit; '
            f'its largest part is {largest!r}'
        )
    return record


def write_record(directory: str | os.PathLike[str], record: Mapping[str, Any]) -> Path:
    """Write ``record`` into ``directory`` atomically and return the file's path.

    A record of the same run is replaced; a reader sees the old one or the new one, whole.
    """
    check_record(record)
    folder = Path(directory)
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / record_name(record)
    with atomic_file(path) as stream:
        stream.write(_encode(record))
    return path


def read_records(directory: str | os.PathLike[str]) -> Records:
    """Read every ``*.json`` in ``directory``, sorted by name; a missing folder holds none.

    Refused, each with one line that names file and reason: anything that is no plain file, is
    too large, is no valid JSON, breaks the schema, was edited, or lies under another run's name;
    and records of different methods that share one student file.
    """
    accepted: list[Record] = []
    refused: list[str] = []
    for path in sorted(Path(directory).glob('*.json')):
        try:
            accepted.append(Record(path.name, _read(path)))
        except (RecordError, OSError) as error:
            refused.append(f'{path}: {_one_line(error)}')
    shared = _shared_students(accepted)
    for record in accepted:
        if record.file in shared:
            refused.append(f'{Path(directory) / record.file}: {shared[record.file]}')
    return Records([r for r in accepted if r.file not in shared], refused)


def _read(path: Path) -> dict[str, Any]:
    if path.is_symlink() or not path.is_file():
        raise RecordError('not a plain file')
    if (size := path.stat().st_size) >= MAX_BYTES:
        raise RecordError(f'{size} bytes, {MAX_BYTES} are the limit')
    try:
        record = json.loads(path.read_bytes(), parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise RecordError(f'not valid JSON ({_one_line(error)})') from None
    check_record(record)
    if path.name != record_name(record):
        raise RecordError(f'holds the record {record_name(record)}; was the file copied?')
    return record


def _shared_students(records: list[Record]) -> dict[str, str]:
    owners: dict[str, dict[str, str]] = {}
    for file, record in records:
        if digest := record['student']['sha256']:
            owners.setdefault(digest, {})[file] = record['student']['name']
    reasons = {}
    for files in owners.values():
        if len(names := sorted(set(files.values()))) > 1:
            for file in files:
                reasons[file] = f'{" and ".join(names)} share one student file (same sha256)'
    return reasons


def _split_metrics(
    task: Task, metrics: Mapping[str, Any]
) -> tuple[dict[str, float], dict[str, str], dict[str, float]]:
    reported = {str(key).rsplit('/', 1)[-1]: value for key, value in metrics.items()}
    values: dict[str, float] = {}
    missing: dict[str, str] = {}
    for key, metric in task.metrics.items():
        if key not in reported:
            missing[key] = 'not reported by the evaluation'
        elif reason := no_figure(reported[key], metric.upper):
            missing[key] = reason
        else:
            values[key] = round(float(reported[key]), 6)
    if task.pools and values:
        # One pool is enough for a head that reads one; the other is then no gap.
        missing = {key: why for key, why in missing.items() if key in reported}
    others = {
        key: round(float(value), 6)
        for key, value in reported.items()
        if key not in task.metrics and not no_figure(value, math.inf)
    }
    return values, missing, others


def _student(
    run: Mapping[str, Any],
    card: Mapping[str, Any] | None,
    architecture: Mapping[str, Any] | None,
    params_m: float | None,
) -> dict[str, Any]:
    student: dict[str, Any] = dict.fromkeys(SECTIONS['student'])
    student['teachers'] = []
    student.update(name=run.get('student'), method=run.get('method'), arch=run.get('arch'))
    if architecture is not None:
        student['architecture'] = dict(architecture)
    student['params_m'] = params_m
    if card is None:
        return student
    if card.get('name') != student['name']:
        raise RecordError(
            f'the run names student {student["name"]!r}, the card says {card.get("name")!r}'
        )
    student.update({key: card[key] for key in SECTIONS['student'] if card.get(key) is not None})
    # The run's own names decide the row: a card's method may be a class with several presets.
    student.update(name=run['student'], method=run['method'])
    return student


def _encode(record: Mapping[str, Any]) -> bytes:
    text = json.dumps(record, indent=1, sort_keys=True, allow_nan=False, ensure_ascii=False)
    return (text + '\n').encode()


def _refuse_constant(name: str) -> None:
    raise RecordError(f'holds {name}, which is no JSON number')


def _one_line(error: BaseException) -> str:
    return ' '.join(str(error).split())
