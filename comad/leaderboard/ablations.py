"""What the ablations on the embedded sample show: a table, and a reading that claims no more.

Everything is computed from run records; a run that is missing stays missing.
"""

import csv
import io
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, stdev

from comad.leaderboard.tables import Statistics
from comad.runs.record import Record
from comad.tasks.task import TASKS

COLUMNS = (
    'cell',
    'difference',
    'metric',
    'mean',
    'sd',
    'n',
    'paired_difference',
    'paired_sd',
    'paired_n',
    'noise_bound',
    'beyond_noise',
    'values',
    'missing',
)
# Two-sided 95 % quantiles of Student's t for 1, 2, ... degrees of freedom; the last serves beyond.
T_QUANTILES = (12.71, 4.30, 3.18, 2.78, 2.57, 2.45, 2.36, 2.31, 2.26)
LEVEL = 0.05


@dataclass(frozen=True)
class AblationRow:
    """One cell and metric over paired seeds; all figures in percent or percentage points.

    Attributes:
        values: seed -> figure; a seed whose run is missing is not there.
        differences: seed -> figure minus that of the default with the same seed.
        wanted: seeds that were asked for.
    """

    cell: str
    difference: str
    metric: str
    values: dict[int, float]
    differences: dict[int, float]
    wanted: int

    @property
    def statistics(self) -> Statistics | None:
        """Mean, sd and n of the figures; None without any."""
        return _statistics(self.values)

    @property
    def paired(self) -> Statistics | None:
        """Mean, sd and n of the differences; None without any."""
        return _statistics(self.differences)

    @property
    def noise_bound(self) -> float | None:
        """Half width of the 95 % t interval of the paired difference; None below two seeds.

        With three seeds it is 2.5 sd: a rule of 2 sd / sqrt(n) would find an effect in 18 % of the
        cells without any.
        """
        if self.paired is None or self.paired.sd is None:
            return None
        quantile = T_QUANTILES[min(self.paired.n - 1, len(T_QUANTILES)) - 1]
        return quantile * self.paired.sd / math.sqrt(self.paired.n)

    @property
    def beyond_noise(self) -> bool | None:
        """Whether the mean difference is beyond the bound; None where that cannot be told."""
        return None if self.noise_bound is None else abs(self.paired.mean) > self.noise_bound


def ablation_rows(
    records: Iterable[Record], default: str, cells: Mapping[str, str], kind: str, seeds: int
) -> list[AblationRow]:
    """Return one row per metric and cell, the default first, whether runs are there or not.

    Args:
        records: run records; those of other tasks and students are left out.
        default: the student that the cells differ from.
        cells: student -> its difference, in the order wanted.
        kind: the task.
        seeds: how many paired seeds were asked for.
    """
    found: dict[tuple[str, str], dict[int, float]] = {}
    for data in (record.data for record in records):
        if data['task'] != kind or data['seeds']['pretrain'] != data['seeds']['transfer']:
            continue
        for key, value in data['metrics'].items():
            percent = TASKS[kind].metrics[key].percent(value)
            held = found.setdefault((data['student']['name'], key), {})
            held[data['seeds']['pretrain']] = percent
    rows = []
    for metric in TASKS[kind].metrics:
        base = found.get((default, metric), {})
        for cell, difference in {default: 'the default', **cells}.items():
            values = dict(sorted(found.get((cell, metric), {}).items()))
            shared = {s: v - base[s] for s, v in values.items() if s in base and cell != default}
            rows.append(AblationRow(cell, difference, metric, values, shared, seeds))
    # A metric that no run reports, such as top-5, is no figure of these ablations.
    reported = {row.metric for row in rows if row.values}
    return [row for row in rows if row.metric in reported]


def ablation_csv(rows: Iterable[AblationRow]) -> str:
    """Return the table as CSV text; equal rows give equal bytes."""
    stream = io.StringIO()
    writer = csv.DictWriter(stream, COLUMNS, lineterminator='\n')
    writer.writeheader()
    for row in rows:
        own, paired = row.statistics, row.paired
        missing = row.wanted - len(row.values)
        writer.writerow(
            {
                'cell': row.cell,
                'difference': row.difference,
                'metric': row.metric,
                'mean': _show(own and own.mean),
                'sd': _show(own and own.sd),
                'n': own.n if own else 0,
                'paired_difference': _show(paired and paired.mean, '+.2f'),
                'paired_sd': _show(paired and paired.sd),
                'paired_n': paired.n if paired else 0,
                'noise_bound': _show(row.noise_bound),
                'beyond_noise': {True: 'yes', False: 'no', None: ''}[row.beyond_noise],
                'values': '; '.join(f'{seed}: {value:.2f}' for seed, value in row.values.items()),
                'missing': f'{missing} of {row.wanted} seeds' if missing else '',
            }
        )
    return stream.getvalue()


def read_ablations(rows: Sequence[AblationRow]) -> list[str]:
    """Return the reading, line by line: what is beyond seed noise, what is not, what is missing."""
    lines = []
    for metric in dict.fromkeys(row.metric for row in rows):
        mine = [row for row in rows if row.metric == metric]
        lines.append(f'{metric}: default {_spread(mine[0])}')
        told = [row for row in mine[1:] if row.beyond_noise is not None]
        for row in sorted(told, key=lambda row: row.paired.mean):
            verdict = 'beyond' if row.beyond_noise else 'within'
            lines.append(
                f'  {row.cell} ({row.difference}): {row.paired.mean:+.2f} +- {row.paired.sd:.2f} '
                f'(n = {row.paired.n}), {verdict} seed noise (bound {row.noise_bound:.2f})'
            )
        lines += [f'  {r.cell}: no verdict, {_spread(r)}' for r in mine[1:] if r not in told]
    told = [row for row in rows if row.beyond_noise is not None]
    beyond = sum(bool(row.beyond_noise) for row in told)
    lines.append(
        f'{beyond} of {len(told)} differences are beyond the 95 % interval of paired seeds; about '
        f'{LEVEL * len(told):.1f} would be if no choice mattered'
    )
    if gaps := sorted({row.cell for row in rows if len(row.values) < row.wanted}):
        lines.append(f'missing runs: {", ".join(gaps)}')
    lines.append(
        'The sample is 6,000 drawn images of 64 px, teachers and students trained for minutes: it '
        'says which choices matter there, nothing about ImageNet'
    )
    return lines


def _statistics(values: Mapping[int, float]) -> Statistics | None:
    figures = list(values.values())
    if not figures:
        return None
    return Statistics(fmean(figures), stdev(figures) if len(figures) > 1 else None, len(figures))


def _spread(row: AblationRow) -> str:
    if row.statistics is None:
        return f'no run of {row.wanted}'
    sd = '' if row.statistics.sd is None else f' +- {row.statistics.sd:.2f}'
    return f'{row.statistics.mean:.2f}{sd} (n = {row.statistics.n})'


def _show(value: float | None, form: str = '.2f') -> str:
    return '' if value is None else format(value, form)
