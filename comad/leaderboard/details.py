"""What a measured row carries that its table has no column for."""

from collections.abc import Iterable, Sequence
from operator import attrgetter
from statistics import fmean
from typing import Any

import msgspec

from comad.runs.record import Record
from comad.runs.track import as_told

TEACHER_KEYS = ('family', 'file', 'digest', 'licence')


def known_mean(values: Iterable[float | None]) -> float | None:
    """Return the mean of the values that are known, None if none is."""
    known = [value for value in values if value is not None]
    return fmean(known) if known else None


def row_details(records: Sequence[Record], open_questions: Iterable[str]) -> dict[str, Any]:
    """Return the details of a row as plain Python; equal records give equal details.

    What is the student's or the protocol's comes from the first record, since it is the same in
    all; what differs between runs is a list in the order of the records, or the sorted set of its
    values. Hours are means over the runs that tell them, of devices, not of the wall.

    Args:
        records: The row's records, sorted by file name.
        open_questions: Why the row is not admitted to a ranking; empty if it is.
    """
    first, student = records[0], records[0].student
    architecture = student.architecture or {}

    def every(field: str) -> list[Any]:
        return list(map(attrgetter(field), records))

    def distinct(field: str) -> list[Any]:
        return sorted({value for value in every(field) if value is not None})

    seconds = known_mean(every('student.pretrain_seconds'))
    return {
        'task': first.task,
        'dataset': first.dataset.name,
        'split': first.dataset.split,
        **as_told(first.track),
        'student_name': student.name,
        'arch': student.arch,
        'width': architecture.get('embed_dim'),
        'depth': architecture.get('depth'),
        'heads': architecture.get('num_heads'),
        'patch': architecture.get('patch_size'),
        'params_m': student.params_m,
        'licence': student.licence,
        'teachers': [{key: getattr(t, key) for key in TEACHER_KEYS} for t in student.teachers],
        'protocol_name': first.protocol.name,
        'protocol_version': first.protocol.version,
        'protocol': dict(sorted(first.protocol.fields.items())),
        'gflops': known_mean(every('cost.gflops')),
        'images_per_second': known_mean(every('cost.images_per_second')),
        'device_hours': known_mean(every('cost.device_hours')),
        'device_kinds': distinct('cost.device_kind'),
        'processes': distinct('cost.processes'),
        'devices': distinct('environment.device'),
        # Cards tell wall seconds; on how many devices is not among their facts.
        'pretrain_hours': None if seconds is None else seconds / 3600,
        'versions': _versions(every('environment.versions')),
        'commits': distinct('environment.git_commit'),
        'dirty': any(dirty is not False for dirty in every('environment.git_dirty')),
        'pretrain_commits': distinct('student.git_commit'),
        'data_manifests': distinct('manifest'),
        'seeds': [[r.seeds.pretrain, r.seeds.transfer] for r in records],
        'students_sha256': every('student.sha256'),
        'checkpoints': msgspec.to_builtins(every('checkpoint')),
        'config_paths': distinct('config.path'),
        'config_digests': every('config.digest'),
        'resolved_sha256': every('config.resolved_sha256'),
        'work_dirs': every('config.work_dir'),
        'records': every('file'),
        'record_digests': every('digest'),
        'not_ranked': list(open_questions),
    }


def _versions(found: Iterable[dict[str, str]]) -> dict[str, list[str]]:
    pairs = sorted({pair for packages in found for pair in packages.items()})
    return {name: [v for n, v in pairs if n == name] for name, _ in pairs}
