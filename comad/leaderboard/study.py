"""The several-seed study on the embedded sample: its table, and what it shows.

Every figure and every verdict is computed from run records.
"""

import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from comad.leaderboard.details import known_mean
from comad.leaderboard.tables import Statistics, statistics
from comad.runs.record import Record
from comad.tasks.task import TASKS

# What must hold, in percentage points or as a ratio; see the README's section on the study.
MIN_SEEDS = 3
MIN_RENDERS = 4000
LINEAR_GAIN = 10.0
POOLED_SDS = 2.0
MIN_TIME_RATIO = 0.9
BACKGROUND_RATIO = 3.0
MIN_AP50 = 15.0
# CoMAD trains patch tokens; its class token gets no target, so the mean of the patches decides.
DECISIVE_POOL = 'mean'
JUDGED = ('comad_tiny', 'mae_tiny', 'scratch_tiny')


@dataclass(frozen=True)
class StudyRow:
    """One student, task, metric and pool over all seeds; values in percent.

    ``pretrain_seconds`` and ``pretrain_tflop`` are means over the pretrainings: wall time, and
    GFLOP per image times images seen, teachers included.
    """

    student: str
    task: str
    metric: str
    pool: str
    values: dict[tuple[int, int], float]
    statistics: Statistics
    pretrain_seconds: float | None
    pretrain_tflop: float | None
    first: dict[str, Any]


class Reading(NamedTuple):
    """One line of the study's reading; ``passed`` is None for what carries no pass mark."""

    text: str
    passed: bool | None


def study_rows(records: Iterable[Record]) -> list[StudyRow]:
    """Return one row per student x task x metric x pool, in the order tasks are declared."""
    grouped: dict[tuple[str, str, str, str], list[tuple[dict[str, Any], float]]] = defaultdict(list)
    for data in (record.data for record in records):
        for key, value in data['metrics'].items():
            metric = TASKS[data['task']].metrics[key]
            group = (data['task'], metric.name, metric.pool, data['student']['name'])
            grouped[group].append((data, metric.percent(value)))
    order = list(TASKS)
    rows = []
    for group in sorted(grouped, key=lambda group: (order.index(group[0]), *group[1:])):
        members = grouped[group]
        seeds = [(d['seeds']['pretrain'], d['seeds']['transfer']) for d, _ in members]
        values = {seed: value for seed, (_, value) in zip(seeds, members, strict=True)}
        task, metric, pool, student = group
        rows.append(
            StudyRow(
                student,
                task,
                metric,
                pool,
                dict(sorted(values.items())),
                statistics((*seed, value) for seed, value in values.items()),
                known_mean(d['student']['pretrain_seconds'] for d, _ in members),
                known_mean(_tflop(d['student']) for d, _ in members),
                members[0][0],
            )
        )
    return rows


def read_study(rows: Sequence[StudyRow], background: float, renders: int) -> list[Reading]:
    """Return the reading: the conditions with their pass marks, then what is shown beside.

    Args:
        rows: See ``study_rows``.
        background: mIoU in percent of calling every pixel background.
        renders: Number of validation images the linear probes were scored on.

    Raises:
        ValueError: If a figure that a condition needs is missing from the rows.
    """
    table = {(r.student, r.task, r.metric, r.pool): r for r in rows}

    def get(student: str, task: str, metric: str, pool: str = '') -> StudyRow:
        try:
            return table[f'{student}_tiny', task, metric, pool]
        except KeyError:
            raise ValueError(f'the study has no {task} {metric} {pool} of {student}_tiny') from None

    readings: list[Reading] = []
    for pool in ('mean', 'cls'):
        comad, mae, scratch = (get(s, 'linear', 'top1', pool) for s in ('comad', 'mae', 'scratch'))
        gain, need = _gain(comad, scratch), f'at least {LINEAR_GAIN:g}'
        decisive = pool == DECISIVE_POOL
        passed = gain >= LINEAR_GAIN if decisive else None
        readings.append(
            Reading(f'linear ({pool}): {_pair(comad, scratch)} = {gain:+.2f}, {need}', passed)
        )
        noise = POOLED_SDS * pooled_sd(comad.statistics, mae.statistics)
        gain = _gain(comad, mae)
        text = f'linear ({pool}): {_pair(comad, mae)} = {gain:+.2f}, more than {noise:.2f}'
        readings.append(Reading(f'{text} (2 pooled sd)', gain > noise if decisive else None))
    pretrained = (get(s, 'linear', 'top1', DECISIVE_POOL) for s in ('comad', 'mae'))
    seconds = [row.pretrain_seconds or math.nan for row in pretrained]
    ratio = seconds[1] / seconds[0]
    text = f'pretraining: CoMAD {seconds[0]:.0f} s, MAE {seconds[1]:.0f} s, ratio {ratio:.2f}'
    readings.append(Reading(f'{text}, at least {MIN_TIME_RATIO:g}', ratio >= MIN_TIME_RATIO))
    segmentation = [get(s, 'upernet', 'mIoU') for s in ('comad', 'scratch')]
    ratio = segmentation[0].statistics.mean / background
    text = f'mIoU: {_show(segmentation[0])} is {ratio:.2f} x all-background ({background:.2f})'
    readings.append(Reading(f'{text}, at least {BACKGROUND_RATIO:g}', ratio >= BACKGROUND_RATIO))
    ap50 = get('comad', 'mask_rcnn', 'bbox_mAP_50')
    enough = ap50.statistics.mean >= MIN_AP50
    readings.append(Reading(f'box AP50: {_show(ap50)}, at least {MIN_AP50:g}', enough))
    detection = [get(s, 'mask_rcnn', 'bbox_mAP') for s in ('comad', 'scratch')]
    masks = [get(s, 'mask_rcnn', 'segm_mAP') for s in ('comad', 'scratch')]
    for pair, decides in ((segmentation, True), (detection, True), (masks, False)):
        gain = _gain(*pair)
        text = f'{pair[0].metric}: {_pair(*pair)} = {gain:+.2f}, at least 0'
        readings.append(Reading(text, gain >= 0 if decides else None))
    fewest = min(row.statistics.n for row in rows)
    readings.append(Reading(f'seeds: {fewest}, at least {MIN_SEEDS}', fewest >= MIN_SEEDS))
    text = f'validation renders: {renders}, at least {MIN_RENDERS}'
    readings.append(Reading(text, renders >= MIN_RENDERS))
    return readings + beside(r for r in rows if r.task == 'linear' and r.student not in JUDGED)


def beside(rows: Iterable[StudyRow]) -> list[Reading]:
    """Return one line per row, without a pass mark."""
    return [
        Reading(
            f'beside: {r.student}, {r.task} {r.metric}{_pool(r)}: {_show(r)} '
            f'(n = {r.statistics.n})',
            None,
        )
        for r in rows
    ]


def pooled_sd(first: Statistics, second: Statistics) -> float:
    """Return sqrt of the mean variance weighted by degrees of freedom; NaN without any."""
    freedom = first.n + second.n - 2
    if first.sd is None or second.sd is None:
        return math.nan
    squares = (first.n - 1) * first.sd**2 + (second.n - 1) * second.sd**2
    return math.sqrt(squares / freedom)


def _gain(first: StudyRow, second: StudyRow) -> float:
    return first.statistics.mean - second.statistics.mean


def _pair(first: StudyRow, second: StudyRow) -> str:
    return f'{first.student} {_show(first)} - {second.student} {_show(second)}'


def _show(row: StudyRow) -> str:
    sd = row.statistics.sd
    return f'{row.statistics.mean:.2f}' + ('' if sd is None else f' +- {sd:.2f}')


def _pool(row: StudyRow) -> str:
    return f' ({row.pool})' if row.pool else ''


def _tflop(student: dict[str, Any]) -> float | None:
    cost, images = student['pretrain_gflop_per_image'], student['images_seen']
    return None if cost is None or images is None else cost * images / 1000
