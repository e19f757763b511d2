"""The study and CoMAD's ablations on the embedded sample: tables, a figure, and what they show.

Every figure and every line is computed from run records; a run that is missing stays missing.
"""

import math
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from pandas import DataFrame, concat

from backbones.files import atomic_path
from comad.leaderboard.cells import read_cells
from comad.leaderboard.details import known_mean
from comad.leaderboard.tables import MEASURED, ORDER, Statistics, figures, statistics
from comad.runs.place import RESULTS, split_equal
from comad.runs.record import Record, Student
from comad.tasks.task import TASKS

STUDY_CSV, ABLATIONS_CSV = RESULTS / 'sample_study.csv', RESULTS / 'sample_ablations.csv'
VIDEO_CSV, DISTILLATION_CSV = RESULTS / 'sample_video.csv', RESULTS / 'sample_distillation.csv'
COMPLEMENTARY_CSV = RESULTS / 'sample_complementary.csv'
KEY = ['student', 'task', 'metric', 'pool']
NOISE_KEY = [*KEY, 'protocol', 'protocol_version']
STUDY_COLUMNS = (
    *('student', 'method_version', 'teachers', 'task', 'metric', 'pool', 'mean', 'sd', 'n'),
    *('seeds', 'values', 'pretrain_seconds', 'pretrain_gflop_per_image', 'pretrain_tflop'),
    *('kind', 'protocol', 'protocol_version', 'device', 'cpu', 'torch'),
)
ABLATION_COLUMNS = (
    *('cell', 'difference', 'metric', 'mean', 'sd', 'n'),
    *('paired_difference', 'paired_sd', 'paired_n', 'noise_bound', 'beyond_noise'),
    *('values', 'missing'),
)
DEFAULT = 'the default'
# Two-sided 95 % quantiles of Student's t for 1, 2, ... degrees of freedom; the last serves beyond.
T_QUANTILES = (12.71, 4.30, 3.18, 2.78, 2.57, 2.45, 2.36, 2.31, 2.26)
LEVEL = 0.05
ACCENT, PLAIN = 'tab:red', 'tab:blue'
FOOTNOTE = (
    'Bars: mean and sd over n seeds; dots: seeds; dashed: mean of the default; red: paired '
    'difference beyond its 95 % t interval.\nEmbedded sample of 64-px images, minutes of '
    'training: no statement about ImageNet.'
)


def study_rows(records: Iterable[Record]) -> DataFrame:
    """Return one row per student x task x metric x pool, in the order tasks are declared.

    Means, sds and values are percent; seconds and TFLOP of a pretraining, teachers included, are
    means over its runs. ``STUDY_COLUMNS`` are text; beside them ``statistics``.
    """
    found = figures(records).dropna(subset='value').sort_values(['pretrain', 'transfer'])
    rows = []
    for key, own in found.groupby(KEY):
        seeds = list(zip(own['pretrain'], own['transfer'], own['value'], strict=True))
        students = [record.student for record in own['record']]
        first, student = own['record'].iat[0], students[0]
        stats = statistics(seeds)
        row = dict(zip(KEY, key, strict=True)) | {
            'method_version': student.method_version or '',
            'teachers': '; '.join(teacher.family or '?' for teacher in student.teachers),
            **_shown(stats),
            'seeds': '; '.join(f'{p}/{s}' for p, s, _ in seeds),
            'values': '; '.join(f'{value:.2f}' for *_, value in seeds),
            'pretrain_seconds': _number(known_mean(s.pretrain_seconds for s in students), '.1f'),
            'pretrain_gflop_per_image': _number(student.pretrain_gflop_per_image, '.3g'),
            'pretrain_tflop': _number(known_mean(map(_tflop, students)), '.4g'),
            'kind': MEASURED,
            'protocol': first.protocol.name,
            'protocol_version': str(first.protocol.version),
            'device': first.environment.device,
            'cpu': first.environment.cpu or '',
            'torch': first.environment.versions.get('torch', ''),
        }
        rows.append(row | {'statistics': stats})
    return _in_order(DataFrame(rows, columns=[*STUDY_COLUMNS, 'statistics']))


def read_study(rows: DataFrame) -> list[str]:
    """Return `study_rows` as lines: ``mae_tiny, linear top1 (mean): 50.00 +- 1.00 (n = 3)``."""
    pools = rows['pool'].map(lambda pool: f' ({pool})' if pool else '')
    names = rows['student'] + ', ' + rows['task'] + ' ' + rows['metric'] + pools + ': '
    return [name + _spread(stats) for name, stats in zip(names, rows['statistics'], strict=True)]


def read_first_look(rows: DataFrame, noise: DataFrame) -> str:
    """Return one line that says how the students of `study_rows` come in, task by task.

    ``linear top1: comad_tiny 55.4 > mae_tiny 44.0 ~ scratch_tiny 43.1`` names each student with
    the better of its poolings. ``>``: by more than twice the pooled sd over seeds that ``noise``
    has for the two; ``~``: by less; ``?``: it has no such sd of this version of the protocol.

    Args:
        rows: of `study_rows`, one seed or more.
        noise: a study's table, see `read_table`.
    """
    known = noise.drop_duplicates(KEY).set_index(NOISE_KEY)['sd'].to_dict()
    parts = []
    for task, of_task in rows.groupby('task', sort=False):
        own = of_task[of_task['metric'] == of_task['metric'].iat[0]]
        best = {}
        for row in own.itertuples():
            if row.student not in best or row.statistics.mean > best[row.student].statistics.mean:
                best[row.student] = row
        order = sorted(best.values(), key=lambda row: -row.statistics.mean)
        text = f'{task} {order[0].metric}: '
        for above, row in zip([None, *order], order, strict=False):
            text += _sign(above, row, known) if above else ''
            text += f'{row.student} {row.statistics.mean:.1f}'
        parts.append(text)
    return '; '.join(parts)


def _sign(above: Any, row: Any, known: Mapping[tuple[str, ...], str]) -> str:
    sds = [known.get(tuple(str(getattr(one, name)) for name in NOISE_KEY)) for one in (above, row)]
    if not all(sds):
        return ' ? '
    pooled = math.sqrt(sum(float(sd) ** 2 for sd in sds) / 2)
    return ' > ' if above.statistics.mean - row.statistics.mean > 2 * pooled else ' ~ '


def budget_of(student: str) -> int:
    """2 of ``comad_equal2_tiny``; 0 of a student of its method's own length."""
    return split_equal(student.rpartition('_')[0])[1]


def read_table(path: str | os.PathLike[str]) -> DataFrame:
    """The rows of a study that is there, none without one; columns it lacks are blank.

    Raises:
        ValueError: A column that is not one of the study's.
    """
    if not Path(path).is_file():
        return DataFrame(columns=STUDY_COLUMNS, dtype=str)
    rows = read_cells(path)
    if unknown := [name for name in rows if name not in STUDY_COLUMNS]:
        raise ValueError(
            f'{path}: unknown column {unknown[0]!r}; expected {", ".join(STUDY_COLUMNS)}'
        )
    return rows.fillna('').reindex(columns=STUDY_COLUMNS, fill_value='')


def complete(old: DataFrame, rows: DataFrame) -> tuple[DataFrame, int, int]:
    """New rows and the old ones of other students, tasks, metrics and pools, as they were.

    An old row of more seeds stays too, where method and protocol have the same versions.

    Returns:
        The rows in the order of :func:`study_rows`, how many of them are old, and how many new
        ones were left out for old ones of more seeds.
    """
    new = rows[list(STUDY_COLUMNS)]
    versions = [*NOISE_KEY, 'method_version']
    seeds = {tuple(row[name] for name in versions): row['n'] for row in old.to_dict('records')}
    fewer = [
        int(seeds.get(tuple(row[name] for name in versions)) or 0) > int(row['n'] or 0)
        for row in new.to_dict('records')
    ]
    new = new[[not few for few in fewer]]
    replaced = set(new[KEY].itertuples(index=False, name=None))
    kept = [key not in replaced for key in old[KEY].itertuples(index=False, name=None)]
    return _in_order(concat([old[kept], new])), sum(kept), sum(fewer)


def t_factor(n: int) -> float:
    """Half width of the 95 % t interval of a mean of ``n`` values, in their sd."""
    return T_QUANTILES[min(n - 1, len(T_QUANTILES)) - 1] / math.sqrt(n)


def seed_statistics(values: Mapping[int, float]) -> Statistics | None:
    """Mean, sd and n of one figure per seed; None without any."""
    return statistics((seed, 0, value) for seed, value in values.items()) if values else None


def ablation_rows(
    records: Iterable[Record], default: str, cells: Mapping[str, str], kind: str, seeds: int
) -> DataFrame:
    """Return one row per metric and cell, the default first, whether runs are there or not.

    All figures are percent or percentage points. ``ABLATION_COLUMNS`` are text; beside them
    ``by_seed`` and ``own``, the figures and their statistics, and of the differences from the
    default with the same seed the statistics, ``paired``, and ``bound``: the half width of their
    95 % t interval, None below two seeds. With three seeds it is 2.5 sd: a rule of 2 sd / sqrt(n)
    would find an effect in 18 % of the cells without any.

    Args:
        records: run records; those of other tasks, students and unpaired seeds are left out.
        default: the student that the cells differ from.
        cells: student -> its difference, in the order wanted.
        kind: the task.
        seeds: how many paired seeds were asked for.
    """
    found = figures(records).dropna(subset='value').sort_values('pretrain')
    found = found[(found['task'] == kind) & (found['pretrain'] == found['transfer'])]
    values = {
        key: dict(zip(own['pretrain'], own['value'], strict=True))
        for key, own in found.groupby(['student', 'key'])
    }
    rows = []
    names = {default: DEFAULT, **cells}
    for metric in TASKS[kind].metrics:
        # A metric that no run reports, such as top-5, is no figure of these ablations.
        if not any((cell, metric) in values for cell in names):
            continue
        base = values.get((default, metric), {})
        for cell, difference in names.items():
            own = values.get((cell, metric), {})
            shared = {s: v - base[s] for s, v in own.items() if s in base and cell != default}
            row = {'cell': cell, 'difference': difference, 'metric': metric}
            rows.append(row | _ablation(own, seed_statistics(shared), seeds))
    beside = ('by_seed', 'own', 'paired', 'bound')
    return DataFrame(rows, columns=[*ABLATION_COLUMNS, *beside], dtype=object)


def _ablation(
    values: Mapping[int, float], paired: Statistics | None, wanted: int
) -> dict[str, Any]:
    own, missing = seed_statistics(values), max(wanted - len(values), 0)
    bound = t_factor(paired.n) * paired.sd if paired and paired.sd is not None else None
    verdict = '' if bound is None else 'yes' if abs(paired.mean) > bound else 'no'
    return {
        **_shown(own),
        **{
            'paired_difference' if name == 'mean' else f'paired_{name}': text
            for name, text in _shown(paired, '+.2f').items()
        },
        'noise_bound': _number(bound),
        'beyond_noise': verdict,
        'values': '; '.join(f'{seed}: {value:.2f}' for seed, value in values.items()),
        'missing': f'{missing} of {wanted} seeds' if missing else '',
        'by_seed': values,
        'own': own,
        'paired': paired,
        'bound': bound,
    }


def read_ablations(rows: DataFrame) -> list[str]:
    """Return the reading, line by line: what is beyond seed noise, what is not, what is missing."""
    lines = []
    told = rows[rows['beyond_noise'] != '']
    for metric, own in rows.groupby('metric', sort=False):
        first, *others = own.itertuples()
        lines.append(f'{metric}: default {_run_spread(first)}')
        judged = [row for row in others if row.beyond_noise]
        for row in sorted(judged, key=lambda row: row.paired.mean):
            verdict = 'beyond' if row.beyond_noise == 'yes' else 'within'
            lines.append(
                f'  {row.cell} ({row.difference}): {_spread(row.paired, "+.2f")}, {verdict} seed '
                f'noise (bound {row.bound:.2f})'
            )
        blank = [row for row in others if not row.beyond_noise]
        lines += [f'  {row.cell}: no verdict, {_run_spread(row)}' for row in blank]
    lines.append(
        f'{(told["beyond_noise"] == "yes").sum()} of {len(told)} differences are beyond the 95 % '
        f'interval of paired seeds; about {LEVEL * len(told):.1f} would be if no choice mattered'
    )
    if gaps := sorted(set(rows.loc[rows['missing'] != '', 'cell'])):
        lines.append(f'missing runs: {", ".join(gaps)}')
    lines.append(
        'The sample is 6,000 drawn images of 64 px, teachers and students trained for minutes: it '
        'says which choices matter there, nothing about ImageNet'
    )
    return lines


def draw_ablations(rows: DataFrame, path: str | Path) -> Path:
    """Draw one panel per metric into a PNG: mean, sd and n per cell, every seed as a dot.

    Raises:
        ValueError: there are no rows.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    if rows.empty:
        raise ValueError('no rows: no ablation has been run')
    panels = list(rows.groupby('metric', sort=False))
    cells = panels[0][1]
    size = (3.0 + 3.8 * len(panels), 1.6 + 0.36 * len(cells))
    figure = Figure(figsize=size, layout='constrained')
    FigureCanvasAgg(figure)  # matplotlib draws on the Agg canvas
    axes = figure.subplots(1, len(panels), squeeze=False, sharey=True)[0]
    for axis, (metric, own) in zip(axes, panels, strict=True):
        _draw_panel(axis, own)
        axis.set_title(f'linear probe, {metric} (%)', fontsize=10)
    axes[0].set_yticks(range(len(cells)), list(cells['difference']), fontsize=9)
    axes[0].invert_yaxis()
    figure.supxlabel(FOOTNOTE, fontsize=8)
    path = Path(path)
    with atomic_path(path) as partial:
        figure.savefig(partial, dpi=110, format='png')
    return path


def _draw_panel(axis: Any, rows: DataFrame) -> None:
    if (default := rows['own'].iat[0]) is not None:
        axis.axvline(default.mean, color='0.5', linestyle='--', linewidth=1)
    for place, row in enumerate(rows.itertuples()):
        if row.own is not None:
            color = ACCENT if row.beyond_noise == 'yes' else PLAIN
            values = list(row.by_seed.values())
            axis.plot(values, [place] * len(values), '.', color=color, alpha=0.45)
            spread = row.own.sd or 0
            axis.errorbar(row.own.mean, place, xerr=spread, fmt='D', color=color, capsize=3)
        text = f'n = {row.own.n}' if row.own else 'missing'
        place_of_text = dict(xycoords=('axes fraction', 'data'), ha='right', va='center')
        axis.annotate(text, (0.99, place), fontsize=8, color='0.35', **place_of_text)
    axis.margins(x=0.15)
    axis.grid(axis='x', alpha=0.3)


def _in_order(rows: DataFrame) -> DataFrame:
    """By task, those that are unknown last, then by metric, pool and student."""
    place = rows['task'].map(ORDER).fillna(len(ORDER))
    order = ['place', 'metric', 'pool', 'student']
    return rows.assign(place=place).sort_values(order, ignore_index=True).drop(columns='place')


def _shown(stats: Statistics | None, form: str = '.2f') -> dict[str, str]:
    if stats is None:
        return {'mean': '', 'sd': '', 'n': '0'}
    return {'mean': format(stats.mean, form), 'sd': _number(stats.sd), 'n': str(stats.n)}


def _spread(stats: Statistics, form: str = '.2f') -> str:
    sd = '' if stats.sd is None else f' +- {stats.sd:.2f}'
    return f'{stats.mean:{form}}{sd} (n = {stats.n})'


def _run_spread(row: Any) -> str:
    return _spread(row.own) if row.own else f'no run of {int(row.missing.split()[0])}'


def _number(value: float | None, form: str = '.2f') -> str:
    return '' if value is None else format(value, form)


def _tflop(student: Student) -> float | None:
    cost, images = student.pretrain_gflop_per_image, student.images_seen
    return None if cost is None or images is None else cost * images / 1000
