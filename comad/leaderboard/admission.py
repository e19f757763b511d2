"""How a row is admitted: which records are refused, and which are shown but never ranked.

A record that may not be what it says gives no row (`comad.runs.schema.check_record`,
`duplicates`). A record that is sound but leaves a question open - on what code, data or weights? -
gives a row that no other row is ranked against (`open_questions`).
"""

import re
from collections import defaultdict
from collections.abc import Hashable, Iterable, Mapping
from typing import Any, NamedTuple

from backbones.architectures import missing_sizes
from comad.runs.schema import TEACHER_FACTS

SHA256 = re.compile('[0-9a-f]{64}')
COMMIT = re.compile('[0-9a-f]{40}([0-9a-f]{24})?')
# The random network has no pretraining of which anything could be known.
SCRATCH = 'scratch'
PRETRAINED = ('method_version', 'data', 'epochs', 'git_commit')
VERSIONS = ('torch', 'timm', 'mmengine')
QUICK = 'names and sizes only'
NAMED = 3


class Record(NamedTuple):
    """A record and the name of the file it was read from."""

    file: str
    data: dict[str, Any]


def open_questions(record: Mapping[str, Any]) -> list[str]:
    """Return why a record is not admitted to a ranked row, one line per field; [] if it is.

    A missing metric is no question of the record: it keeps the rows of that metric alone from
    being ranked.

    Args:
        record: A record that `comad.runs.schema.check_record` accepts.
    """
    environment, config = record['environment'], record['config']
    questions = _of_student(record['student'])
    fields = record['protocol']['fields']
    questions += [
        f'protocol field {name} is unknown' for name in sorted(fields) if fields[name] is None
    ]
    if not COMMIT.fullmatch(environment['git_commit'] or ''):
        questions.append(f'environment.git_commit is {_show(environment["git_commit"])}, no commit')
    if environment['git_dirty'] is not False:
        state = 'true: uncommitted changes' if environment['git_dirty'] else 'null, not known'
        questions.append(f'environment.git_dirty is {state}')
    questions += _of_data(environment['data_manifest'])
    questions += [
        f'environment.versions.{name} is absent'
        for name in VERSIONS
        if not environment['versions'].get(name)
    ]
    if not environment['device']:
        questions.append('environment.device is blank')
    for key in ('digest', 'resolved_sha256'):
        questions += _no_digest(f'config.{key}', config[key])
    if record['images_seen'] > 0:  # a transfer that trained; k-NN leaves no checkpoint
        questions += _no_digest('checkpoint.sha256', record['checkpoint']['sha256'])
    if not record['cost']['device_hours'] > 0:
        questions.append(f'cost.device_hours is {record["cost"]["device_hours"]}')
    return questions


def duplicates(records: Iterable[Record]) -> dict[str, str]:
    """Return file -> reason for every record of a run that is there more than once.

    One file of weights belongs to one pretraining, one checkpoint to one evaluation of a task, and
    one config and seed to one run. Which of two is the copy cannot be told: both are refused.
    """
    owners: dict[Hashable, list[tuple[str, str]]] = defaultdict(list)
    for file, data in records:
        student, seeds = data['student'], data['seeds']
        if digest := student['sha256']:
            who = f'{student["name"]} of pretraining seed {seeds["pretrain"]}'
            owners['one student file (same sha256)', digest].append((who, file))
        if digest := data['checkpoint']['sha256']:
            owners['one checkpoint (same sha256)', data['task'], digest].append((file, file))
        config = (data['config']['digest'], seeds['transfer'])
        owners['one config and seed (same digest)', data['task'], config].append((file, file))
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


def _of_student(student: Mapping[str, Any]) -> list[str]:
    architecture = student['architecture'] or {}
    questions = [
        f'student.architecture.{key} is {_show(architecture.get(key))}, no size'
        for key in missing_sizes(student['arch'], architecture)
    ]
    if not student['params_m']:
        questions.append(f'student.params_m is {_show(student["params_m"])}')
    if student['method'] == SCRATCH:
        return questions
    for key in PRETRAINED:
        if student[key] in (None, ''):
            questions.append(f'student.{key} is {_show(student[key])}')
    for key in ('config_digest', 'sha256'):
        questions += _no_digest(f'student.{key}', student[key])
    for number, teacher in enumerate(student['teachers']):
        questions += [
            f'student.teachers.{number}.{key} is {_show(teacher.get(key))}'
            for key in TEACHER_FACTS
            if not teacher.get(key)
        ]
    return questions


def _of_data(manifest: str | None) -> list[str]:
    if manifest is None:
        return ['environment.data_manifest is null: python tools/data.py check writes one']
    if QUICK in manifest:
        return ['environment.data_manifest is of names and sizes only: check without --quick']
    return []


def _no_digest(name: str, value: str | None) -> list[str]:
    return [] if SHA256.fullmatch(value or '') else [f'{name} is {_show(value)}, no sha256']


def _listed(names: list[str]) -> str:
    if len(names) <= NAMED + 1:
        return ', '.join(names)
    return f'{", ".join(names[:NAMED])} and {len(names) - NAMED} more'


def _show(value: Any) -> str:
    return 'null' if value is None else f'{value!r:.40}'
