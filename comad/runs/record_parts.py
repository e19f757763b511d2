"""Sections of a run record: metrics, student and cost."""

import math
from collections.abc import Mapping
from typing import Any

from comad.runs.schema import SECTIONS, RecordError, no_figure
from comad.tasks.task import Task


def split_metrics(
    task: Task, metrics: Mapping[str, Any]
) -> tuple[dict[str, float], dict[str, str], dict[str, float]]:
    """Return the task's metrics, reasons for those that are missing, and all other figures."""
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


def cost_section(
    environment: Mapping[str, Any],
    processes: int,
    wall_seconds: float,
    images_seen: int,
    gflops: float | None,
) -> dict[str, Any]:
    """Return what the transfer took: device hours, images per second, GFLOP per image."""
    rate = images_seen / wall_seconds if images_seen and wall_seconds else None
    return {
        'device_kind': 'cpu' if environment.get('device', 'cpu') == 'cpu' else 'gpu',
        'processes': processes,
        'device_hours': round(wall_seconds * processes / 3600, 6),
        'images_per_second': None if rate is None else round(rate, 2),
        'gflops': None if gflops is None else round(gflops, 4),
    }


def student_section(
    run: Mapping[str, Any],
    card: Mapping[str, Any] | None,
    architecture: Mapping[str, Any] | None,
    params_m: float | None,
) -> dict[str, Any]:
    """Return what the record says about the student, from its card where it has one.

    Raises:
        RecordError: If the card belongs to another student.
    """
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
