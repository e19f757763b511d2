"""The record of a finished evaluation: made of what a run has, checked by what its task wants."""

import math
from collections.abc import Mapping
from typing import Any

from msgspec import UNSET

from comad.data.identity import DataIdentity
from comad.runs.card import StudentCard, unit_of
from comad.runs.record import Record, RecordError, Student, seal
from comad.runs.track import FULL, as_told
from comad.tasks.task import Task, get_task

MAX_SOURCE_CHARS = 1500


def build_record(
    config: Mapping[str, Any],
    metrics: Mapping[str, Any],
    card: StudentCard | None,
    environment: Mapping[str, Any],
    *,
    dataset: DataIdentity,
    train_dataset: DataIdentity | None,
    wall_seconds: float,
    images_seen: int,
    architecture: Mapping[str, Any] | None = None,
    params_m: float | None = None,
    trained_fields: Mapping[str, Any] | None = None,
    checkpoint: Mapping[str, Any] | None = None,
    resolved_sha256: str | None = None,
    processes: int | None = None,
    gflops: float | None = None,
    segments: Mapping[str, Any] | None = None,
) -> Record:
    """Make the record of one finished evaluation.

    A metric that the evaluation did not report, or reported as something that is no figure (an
    empty detection result, NaN, mmdet's -1 for "nothing to find"), is listed under ``missing``
    with the reason; no value is invented for it.

    Args:
        config: The resolved config as plain Python, including ``run`` and ``protocol``.
        metrics: What the evaluation loop returned; a prefix up to the last ``/`` is dropped. Those
            that no table shows are kept under ``other_metrics``.
        card: The student's; None for one that was never pretrained.
        environment: See `comad.runs.environment.collect_environment`.
        dataset: What was evaluated.
        train_dataset: What the transfer learned from.
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
        segments: Digest and ``segments`` of a training that went on with another config or code.

    Raises:
        RecordError: If ``run`` or ``protocol`` is incomplete, the card belongs to another student,
            or the record would not fit into 8 KB.
    """
    run = config.get('run')
    protocol = config.get('protocol')
    if not isinstance(run, Mapping) or not isinstance(protocol, Mapping):
        raise RecordError("the resolved config needs 'run' and 'protocol' to be recorded")
    task = task_of(str(run.get('kind')))
    values, missing, others = _split_metrics(task, metrics)
    source = str(run.get('source', ''))
    if len(source) > MAX_SOURCE_CHARS:
        source = source[:MAX_SOURCE_CHARS] + ' [...]'
    world_size = int(environment.get('world_size', 1))
    processes = processes or world_size
    record = seal(
        {
            'task': task.kind,
            **as_told(str(run.get('track', FULL))),
            'dataset': dataset,
            'train_dataset': train_dataset,
            'protocol': {
                'name': protocol.get('name'),
                'version': protocol.get('version'),
                'fields': {**task.read_protocol(config, world_size), **(trained_fields or {})},
            },
            'metrics': values,
            'missing': missing,
            'other_metrics': others,
            'student': _student(run, card, architecture, params_m),
            'seeds': {'pretrain': run.get('pretrain_seed'), 'transfer': run.get('seed')},
            'config': {
                'path': str(run.get('config')),
                'digest': str(run.get('digest')),
                'source': source,
                'work_dir': config.get('work_dir'),
                'resolved_sha256': resolved_sha256,
                **(segments or {}),
            },
            'environment': environment,
            'checkpoint': checkpoint or {},
            'cost': {
                'device_kind': 'cpu' if environment.get('device', 'cpu') == 'cpu' else 'gpu',
                'processes': processes,
                'device_hours': round(wall_seconds * processes / 3600, 6),
                'unit': unit_of(architecture),
                'images_per_second': (
                    round(images_seen / wall_seconds, 2) if images_seen and wall_seconds else None
                ),
                'gflops': None if gflops is None else round(gflops, 4),
            },
            'wall_seconds': round(float(wall_seconds), 2),
            'images_seen': int(images_seen),
        }
    )
    check_task(record)
    return record


def check_task(record: Record) -> None:
    """Raise RecordError, with one line, unless a record has what its task wants.

    Known metrics within their range, a figure or a reason for each, and every protocol field.
    """
    task = task_of(record.task)
    if unknown := sorted(record.metrics.keys() - task.metrics.keys()):
        raise RecordError(f'unknown metric {unknown[0]!r}; {task.kind} has {sorted(task.metrics)}')
    for key, value in record.metrics.items():
        if reason := no_figure(value, task.metrics[key].upper):
            raise RecordError(f'metric {key!r} {reason}')
    unaccounted = task.metrics.keys() - record.metrics.keys() - record.missing.keys()
    if unaccounted and not task.pools:
        raise RecordError(f'metric {sorted(unaccounted)[0]!r} is neither reported nor missing')
    if absent := sorted(set(task.protocol_fields) - set(record.protocol.fields)):
        raise RecordError(
            f'protocol field {absent[0]!r} is absent; records without it have to be made again'
        )


def task_of(kind: str) -> Task:
    """Return the task of that kind; RecordError if there is none."""
    try:
        return get_task(kind)
    except KeyError as error:
        raise RecordError(error.args[0]) from None


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


def _split_metrics(
    task: Task, metrics: Mapping[str, Any]
) -> tuple[dict[str, float], dict[str, str], dict[str, float]]:
    """The task's metrics, reasons for those that are missing, and all other figures."""
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
    card: StudentCard | None,
    architecture: Mapping[str, Any] | None,
    params_m: float | None,
) -> dict[str, Any]:
    """What the record says about the student, from its card where it has one."""
    # The run's own names decide the row: a card's method may be a class with several presets.
    names = {'name': run.get('student'), 'method': run.get('method')}
    measured = {'arch': run.get('arch'), 'architecture': architecture, 'params_m': params_m}
    if card is None:
        return {**measured, **names}
    if card.name != names['name']:
        raise RecordError(f'the run names student {names["name"]!r}, the card says {card.name!r}')
    known = {key: getattr(card, key) for key in Student.__struct_fields__}
    known = {k: value for k, value in known.items() if value is not None and value is not UNSET}
    return measured | known | names
