"""What a measured row carries that its table has no column for."""

from collections.abc import Iterable, Sequence
from statistics import fmean
from typing import Any

from comad.runs.record import Record

TEACHER_KEYS = ('family', 'file', 'digest', 'licence')


def known_mean(values: Iterable[float | None]) -> float | None:
    """Return the mean of the values that are known, None if none is."""
    known = [value for value in values if value is not None]
    return fmean(known) if known else None


def row_details(members: Sequence[Record], open_questions: Iterable[str]) -> dict[str, Any]:
    """Return the details of a row as plain Python; equal records give equal details.

    What is the student's or the protocol's comes from the first record, since it is the same in
    all; what differs between runs is a list in the order of the records, or the sorted set of its
    values. Hours are means over the runs that tell them, of devices, not of the wall.

    Args:
        members: The row's records, sorted by file name.
        open_questions: Why the row is not admitted to a ranking; empty if it is.
    """
    data = [record.data for record in members]
    first, student = data[0], data[0]['student']
    architecture = student['architecture'] or {}
    seconds = known_mean(d['student']['pretrain_seconds'] for d in data)
    return {
        'task': first['task'],
        'dataset': first['dataset']['name'],
        'split': first['dataset']['split'],
        'sample': first['sample'],
        'student_name': student['name'],
        'arch': student['arch'],
        'width': architecture.get('embed_dim'),
        'depth': architecture.get('depth'),
        'heads': architecture.get('num_heads'),
        'patch': architecture.get('patch_size'),
        'params_m': student['params_m'],
        'licence': student['licence'],
        'teachers': [{k: t.get(k) for k in TEACHER_KEYS} for t in student['teachers']],
        'protocol_name': first['protocol']['name'],
        'protocol_version': first['protocol']['version'],
        'protocol': dict(sorted(first['protocol']['fields'].items())),
        'gflops': known_mean(d['cost']['gflops'] for d in data),
        'images_per_second': known_mean(d['cost']['images_per_second'] for d in data),
        'device_hours': known_mean(d['cost']['device_hours'] for d in data),
        'device_kinds': _distinct(d['cost']['device_kind'] for d in data),
        'processes': sorted({d['cost']['processes'] for d in data}),
        'devices': _distinct(d['environment']['device'] for d in data),
        # Cards tell wall seconds; on how many devices is not among their facts.
        'pretrain_hours': None if seconds is None else seconds / 3600,
        'versions': _versions(d['environment']['versions'] for d in data),
        'commits': _distinct(d['environment']['git_commit'] for d in data),
        'dirty': any(d['environment']['git_dirty'] is not False for d in data),
        'pretrain_commits': _distinct(d['student']['git_commit'] for d in data),
        'data_manifests': _distinct(record.manifest for record in members),
        'seeds': [[d['seeds']['pretrain'], d['seeds']['transfer']] for d in data],
        'students_sha256': [d['student']['sha256'] for d in data],
        'checkpoints': [dict(d['checkpoint']) for d in data],
        'config_paths': _distinct(d['config']['path'] for d in data),
        'config_digests': [d['config']['digest'] for d in data],
        'resolved_sha256': [d['config']['resolved_sha256'] for d in data],
        'work_dirs': [d['config']['work_dir'] for d in data],
        'records': [record.file for record in members],
        'record_digests': [d['digest'] for d in data],
        'not_ranked': list(open_questions),
    }


def _distinct(values: Iterable[str | None]) -> list[str]:
    return sorted({value for value in values if value is not None})


def _versions(found: Iterable[dict[str, Any]]) -> dict[str, list[str]]:
    versions: dict[str, set[str]] = {}
    for packages in found:
        for name, version in packages.items():
            versions.setdefault(name, set()).add(str(version))
    return {name: sorted(versions[name]) for name in sorted(versions)}
