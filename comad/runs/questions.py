"""What keeps a row from being ranked: facts of a record that are unknown or not in order.

Those that are known before a run are told at its start.
"""

import re
from typing import Any

from backbones.architectures import missing_sizes
from comad.data.identity import DataIdentity
from comad.data.manifest import QUICK
from comad.runs.record import Environment, Record, Segments, Student

SHA256 = re.compile('[0-9a-f]{64}')
COMMIT = re.compile('[0-9a-f]{40}([0-9a-f]{24})?')
# The random network has no pretraining of which anything could be known.
SCRATCH = 'scratch'
PRETRAINED = ('method_version', 'data', 'epochs')
VERSIONS = ('torch', 'timm', 'mmengine')
TEACHER_FACTS = ('family', 'file', 'digest')


def open_questions(record: Record) -> list[str]:
    """Return why a record is not admitted to a ranked row, one line per field; [] if it is.

    A missing metric is no question of the record: it keeps the rows of that metric alone from
    being ranked.

    Args:
        record: A record that `comad.leaderboard.admission.read_admitted` accepts.
    """
    environment, config, fields = record.environment, record.config, record.protocol.fields
    questions = of_student(record.student)
    questions += [
        f'protocol field {name} is unknown' for name in sorted(fields) if fields[name] is None
    ]
    questions += of_environment(environment)
    questions += of_data('dataset', record.dataset)
    if record.train_dataset is not None:
        questions += of_data('train_dataset', record.train_dataset)
    elif record.images_seen > 0:
        questions.append('train_dataset is null: the checkpoint does not tell')
    questions += of_segments('config', config.segments)
    questions += _no_digest('config.digest', config.digest)
    questions += _no_digest('config.resolved_sha256', config.resolved_sha256)
    if record.images_seen > 0:  # a transfer that trained; k-NN leaves no checkpoint
        questions += _no_digest('checkpoint.sha256', record.checkpoint.sha256)
    if not record.cost.device_hours > 0:
        questions.append(f'cost.device_hours is {record.cost.device_hours}')
    return questions


def of_environment(environment: Environment) -> list[str]:
    """Return what of code, packages and device is unknown or not in order, one line per field."""
    questions = of_commit('environment', environment.git_commit)
    if environment.git_dirty is not False:
        state = 'true: uncommitted changes' if environment.git_dirty else 'null, not known'
        questions.append(f'environment.git_dirty is {state}')
    questions += [
        f'environment.versions.{name} is absent'
        for name in VERSIONS
        if not environment.versions.get(name)
    ]
    if not environment.device:
        questions.append('environment.device is blank')
    return questions


def of_commit(section: str, commit: str | None) -> list[str]:
    """Return why it is not known of what code a section of the record is."""
    if COMMIT.fullmatch(commit or ''):
        return []
    return [f'{section}.git_commit is {_show(commit)}, no commit']


def of_segments(section: str, segments: Segments) -> list[str]:
    """Return why a training that was stopped and went on is not what one config says."""
    parts = segments or []
    questions = []
    for name, what in (('config_digest', 'configs'), ('git_commit', 'commits')):
        if (several := len({getattr(part, name) for part in parts})) > 1:
            questions.append(f'{section}.segments: trained under {several} {what} in turn')
    if parts and parts[0].begin:
        questions.append(f'{section}.segments: not known before step {parts[0].begin}')
    if any(part.git_dirty for part in parts):
        questions.append(f'{section}.segments: git_dirty, uncommitted changes')
    return questions


def of_data(section: str, data: DataIdentity) -> list[str]:
    """Return why the data of a section of the record cannot be told from others."""
    if data.manifest is None:
        return [f'{section}.manifest is null: python tools/data.py check writes one']
    questions = []
    if QUICK in data.manifest:
        questions.append(
            f'{section}.manifest is of names and sizes only: python tools/data.py check of the '
            'folder, without --quick, reads all files'
        )
    if data.problems:
        questions.append(
            f'{section}.problems is {data.problems}: check.txt beside the manifest lists them'
        )
    return questions


def of_student(student: Student) -> list[str]:
    """Return what of a student and its pretraining is unknown, one line per field."""
    architecture = student.architecture or {}
    questions = [
        f'student.architecture.{key} is {_show(architecture.get(key))}, no size'
        for key in missing_sizes(student.arch, architecture)
    ]
    if not student.params_m:
        questions.append(f'student.params_m is {_show(student.params_m)}')
    if student.method == SCRATCH:
        return questions
    for key in PRETRAINED:
        if getattr(student, key) in (None, ''):
            questions.append(f'student.{key} is {_show(getattr(student, key))}')
    questions += of_commit('student', student.git_commit)
    questions += of_segments('student', student.segments)
    if student.data is not None:
        questions += of_data('student.data', student.data)
    questions += _no_digest('student.config_digest', student.config_digest)
    questions += _no_digest('student.sha256', student.sha256)
    for number, teacher in enumerate(student.teachers):
        questions += [
            f'student.teachers.{number}.{key} is {_show(getattr(teacher, key))}'
            for key in TEACHER_FACTS
            if not getattr(teacher, key)
        ]
    return questions


def _no_digest(name: str, value: str | None) -> list[str]:
    return [] if SHA256.fullmatch(value or '') else [f'{name} is {_show(value)}, no sha256']


def _show(value: Any) -> str:
    return 'null' if value is None else f'{value!r:.40}'
