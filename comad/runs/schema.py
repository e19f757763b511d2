"""What a run record has to hold, its name and its digest."""

import hashlib
import json
import math
import re
from collections.abc import Mapping
from typing import Any

from comad.tasks.task import Task, get_task

SCHEMA = 3
MAX_BYTES = 8192
TEACHER_FACTS = ('family', 'file', 'digest')
DEVICE_KINDS = ('cpu', 'gpu')
NAME = re.compile(r'[a-z0-9][a-z0-9_]*')
PATH = re.compile(r'[\w./-]{1,100}')

# Sections and the type of each of their entries; None in a tuple allows null.
SECTIONS: dict[str, dict[str, tuple[type | None, ...]]] = {
    'protocol': {'name': (str,), 'version': (int,), 'fields': (dict,)},
    'student': {
        'name': (str,),
        'method': (str,),
        'method_version': (str, None),
        'arch': (str,),
        'architecture': (dict, None),
        'params_m': (float, int, None),
        'config_digest': (str, None),
        'epochs': (float, int, None),
        'iterations': (int, None),
        'images_seen': (int, None),
        'data': (str, None),
        'teachers': (list,),
        'licence': (str, None),
        'pretrain_seconds': (float, int, None),
        'pretrain_gflop_per_image': (float, int, None),
        'git_commit': (str, None),
        'sha256': (str, None),
    },
    'seeds': {'pretrain': (int,), 'transfer': (int,)},
    'config': {
        'path': (str,),
        'digest': (str,),
        'source': (str,),
        'work_dir': (str, None),
        'resolved_sha256': (str, None),
    },
    'checkpoint': {'file': (str, None), 'sha256': (str, None)},
    'cost': {
        'device_kind': (str,),
        'processes': (int,),
        'device_hours': (float, int),
        'images_per_second': (float, int, None),
        'gflops': (float, int, None),
    },
    'environment': {
        'versions': (dict,),
        'device': (str,),
        'git_commit': (str, None),
        'git_dirty': (bool, None),
        'data_manifest': (str, None),
    },
}
TOP_LEVEL: dict[str, tuple[type, ...]] = {
    'schema': (int,),
    'task': (str,),
    'dataset': (str,),
    'split': (str,),
    'sample': (bool,),
    'protocol': (dict,),
    'metrics': (dict,),
    'missing': (dict,),
    'other_metrics': (dict,),
    'student': (dict,),
    'seeds': (dict,),
    'config': (dict,),
    'environment': (dict,),
    'checkpoint': (dict,),
    'cost': (dict,),
    'wall_seconds': (float, int),
    'images_seen': (int,),
    'digest': (str,),
}


class RecordError(ValueError):
    """A record that does not keep the schema; the message is one line."""


def record_name(record: Mapping[str, Any]) -> str:
    """Return the file name of a record: ``<kind>_<student>_p<P>_s<N>.json``.

    Raises:
        RecordError: If task or student is anything but a plain lower-case name, so that no record
            can be written outside its folder.
    """
    task, student, seeds = record['task'], record['student']['name'], record['seeds']
    for value in (task, student):
        if not isinstance(value, str) or not NAME.fullmatch(value):
            raise RecordError(f'{value!r} cannot be part of a record name; use a-z, 0-9 and _')
    return f'{task}_{student}_p{int(seeds["pretrain"])}_s{int(seeds["transfer"])}.json'


def resolved_name(record: Mapping[str, Any]) -> str:
    """Return the name of the resolved config that a run leaves in its work dir."""
    return f'resolved_{record["task"]}.py'


def record_digest(record: Mapping[str, Any]) -> str:
    """Return the SHA-256 of a record's contents without its ``digest`` entry."""
    contents = {key: value for key, value in record.items() if key != 'digest'}
    text = json.dumps(contents, sort_keys=True, separators=(',', ':'), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def check_record(record: Any) -> None:
    """Raise RecordError, with one line, unless ``record`` keeps the schema and its digest."""
    if not isinstance(record, dict):
        raise RecordError(f'a record is a JSON object, this is {type(record).__name__}')
    if record.get('schema') != SCHEMA:
        raise RecordError(_other_schema(record))
    _check_entries(record, TOP_LEVEL, '')
    for section, entries in SECTIONS.items():
        _check_entries(record[section], entries, f'{section}.')
    task = task_of(record['task'])
    if unknown := sorted(set(record['metrics']) - set(task.metrics)):
        raise RecordError(f'unknown metric {unknown[0]!r}; {task.kind} has {sorted(task.metrics)}')
    for key, value in record['metrics'].items():
        if reason := no_figure(value, task.metrics[key].upper):
            raise RecordError(f'metric {key!r} {reason}')
    unaccounted = set(task.metrics) - set(record['metrics']) - set(record['missing'])
    if unaccounted and not task.pools:
        raise RecordError(f'metric {sorted(unaccounted)[0]!r} is neither reported nor missing')
    if not record['metrics'] and not record['missing']:
        raise RecordError('neither a metric nor a reason for its absence')
    if absent := sorted(set(task.protocol_fields) - set(record['protocol']['fields'])):
        raise RecordError(f'protocol field {absent[0]!r} is absent')
    for seed in record['seeds'].values():
        if seed < 0:
            raise RecordError(f'seed {seed} is negative')
    record_name(record)
    _check_student(record['student'])
    _check_cost(record)
    if record['digest'] != record_digest(record):
        raise RecordError('the digest does not match the contents; was the file edited?')


def no_figure(value: Any, upper: float) -> str:
    """Return why ``value`` is no figure between 0 and ``upper``, '' if it is one."""
    if isinstance(value, bool) or not hasattr(value, '__float__'):
        return f'is not a number: {value!r}'
    try:
        number = float(value)
    except OverflowError:
        return 'is too large'
    if not math.isfinite(number):
        return f'is not finite: {number}'
    if not 0 <= number <= upper:
        return f'is outside 0 to {upper:g}: {number:g}'
    return ''


def task_of(kind: str) -> Task:
    """Return the task of that kind; RecordError if there is none."""
    try:
        return get_task(kind)
    except KeyError as error:
        raise RecordError(error.args[0]) from None


def _other_schema(record: Mapping[str, Any]) -> str:
    schema, config = record.get('schema'), record.get('config')
    text = f'schema {schema!r:.40} is not {SCHEMA}'
    if not isinstance(schema, int) or schema >= SCHEMA:
        return text
    # What an earlier version did not write down cannot be added afterwards.
    path = config.get('path') if isinstance(config, dict) else None
    path = path if isinstance(path, str) and PATH.fullmatch(path) else 'CONFIG'
    return f'{text}: made by an earlier version; run it again with tools/train.py {path}'


def _check_cost(record: Mapping[str, Any]) -> None:
    cost = record['cost']
    if cost['device_kind'] not in DEVICE_KINDS:
        kinds = ' or '.join(DEVICE_KINDS)
        raise RecordError(f'cost.device_kind is {cost["device_kind"]!r}, not {kinds}')
    figures = {f'cost.{key}': value for key, value in cost.items() if key != 'device_kind'}
    figures['wall_seconds'] = record['wall_seconds']
    for key, value in figures.items():
        if value is not None and (reason := no_figure(value, math.inf)):
            raise RecordError(f'{key} {reason}')


def _check_student(student: Mapping[str, Any]) -> None:
    for key in ('method', 'arch'):
        if not NAME.fullmatch(student[key]):
            raise RecordError(f'student.{key} is {student[key]!r:.40}; use a-z, 0-9 and _')
    for key in ('params_m', 'epochs', 'pretrain_seconds', 'pretrain_gflop_per_image'):
        if student[key] is not None and (reason := no_figure(student[key], math.inf)):
            raise RecordError(f'student.{key} {reason}')
    for number, teacher in enumerate(student['teachers']):
        if not isinstance(teacher, dict):
            raise RecordError(f'student.teachers.{number} is {teacher!r:.40}, not dict')
        for key in TEACHER_FACTS:
            if not isinstance(teacher.get(key), (str, type(None))):
                raise RecordError(f'student.teachers.{number}.{key} is {teacher[key]!r:.40}')


def _check_entries(
    section: Mapping[str, Any], entries: Mapping[str, tuple[type | None, ...]], prefix: str
) -> None:
    for key, types in entries.items():
        if key not in section:
            raise RecordError(f'{prefix}{key} is absent')
        value = section[key]
        if value is None and None in types:
            continue
        accepted = tuple(kind for kind in types if kind is not None)
        if not isinstance(value, accepted) or (isinstance(value, bool) and bool not in accepted):
            names = ' or '.join(kind.__name__ for kind in accepted)
            raise RecordError(f'{prefix}{key} is {value!r:.80}, not {names}')
