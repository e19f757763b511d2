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
from typing import Any, NamedTuple, NoReturn

from backbones.files import atomic_file
from comad.leaderboard.admission import Record, duplicates
from comad.runs.record_parts import cost_section, split_metrics, student_section
from comad.runs.schema import (
    MAX_BYTES,
    SCHEMA,
    RecordError,
    check_record,
    record_digest,
    record_name,
    task_of,
)

MAX_SOURCE_CHARS = 1500


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
    checkpoint: Mapping[str, Any] | None = None,
    resolved_sha256: str | None = None,
    processes: int | None = None,
    gflops: float | None = None,
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
        environment: See ``comad.runs.environment.collect_environment``.
        wall_seconds: Duration of the transfer and its evaluation, in seconds.
        images_seen: Training images that the transfer consumed, all processes together.
        architecture: The backbone's architecture; needed where there is no card.
        params_m: Millions of backbone parameters; needed where there is no card.
        trained_fields: Protocol fields that an earlier run, the training, has settled.
        checkpoint: ``file``, relative to the work dir, and ``sha256`` of what was evaluated; None
            where nothing was trained.
        resolved_sha256: Digest of the resolved config that lies in the work dir.
        processes: Processes of the transfer; those of ``environment`` by default.
        gflops: GFLOP (2 per multiply-add) of one forward pass of the backbone on one image.

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
    values, missing, others = split_metrics(task, metrics)
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
        'student': student_section(run, student_card, architecture, params_m),
        'seeds': {'pretrain': run.get('pretrain_seed'), 'transfer': run.get('seed')},
        'config': {
            'path': str(run.get('config')),
            'digest': str(run.get('digest')),
            'source': source,
            'work_dir': config.get('work_dir'),
            'resolved_sha256': resolved_sha256,
        },
        'environment': dict(environment),
        'checkpoint': {'file': None, 'sha256': None, **(checkpoint or {})},
        'cost': cost_section(
            environment, processes or world_size, wall_seconds, images_seen, gflops
        ),
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
    and every record of a run that is there twice, see `comad.leaderboard.admission.duplicates`.
    """
    accepted: list[Record] = []
    refused: list[str] = []
    for path in sorted(Path(directory).glob('*.json')):
        try:
            accepted.append(Record(path.name, _read(path)))
        except (ValueError, OSError, RecursionError) as error:
            refused.append(_line(path, error))
    twice = duplicates(accepted)
    refused += [_line(Path(directory) / file, reason) for file, reason in twice.items()]
    return Records([record for record in accepted if record.file not in twice], refused)


def _read(path: Path) -> dict[str, Any]:
    if path.is_symlink() or not path.is_file():
        raise RecordError('not a plain file')
    if (size := path.stat().st_size) >= MAX_BYTES:
        raise RecordError(f'{size} bytes, {MAX_BYTES} are the limit')
    try:
        record = json.loads(
            path.read_bytes(),
            parse_constant=_refuse_constant,
            parse_float=_finite,
            object_pairs_hook=_without_repeats,
        )
    except RecordError:
        raise
    except (ValueError, RecursionError) as error:
        raise RecordError(f'not valid JSON ({_one_line(error)})') from None
    check_record(record)
    _encode(record)  # half a surrogate pair, which no table could be written with, raises here
    if path.name != record_name(record):
        raise RecordError(f'holds the record {record_name(record)}; was the file copied?')
    return record


def _encode(record: Mapping[str, Any]) -> bytes:
    text = json.dumps(record, indent=1, sort_keys=True, allow_nan=False, ensure_ascii=False)
    return (text + '\n').encode()


def _refuse_constant(name: str) -> NoReturn:
    raise RecordError(f'holds {name}, which is no finite number')


def _finite(text: str) -> float:
    number = float(text)
    return number if math.isfinite(number) else _refuse_constant(text[:20])


def _without_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    # Python keeps the last of two equal keys, a reader of the file sees the first.
    found = dict(pairs)
    if len(found) < len(pairs):
        keys = [key for key, _ in pairs]
        repeated = next(key for key in keys if keys.count(key) > 1)
        raise RecordError(f'holds the key {repeated!r} twice')
    return found


def _line(path: Path, reason: Any) -> str:
    # A file's name may hold bytes that no terminal can show.
    return _one_line(f'{path}: {reason}').encode(errors='backslashreplace').decode()


def _one_line(error: Any) -> str:
    return ' '.join(str(error).split())
