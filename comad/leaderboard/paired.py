"""Differences within seeds, as docs/results.md shows them: of the study, and of groups of cells."""

from collections.abc import Mapping
from pathlib import Path

from pandas import DataFrame

from comad.leaderboard.cells import read_cells
from comad.leaderboard.outputs import markdown_table
from comad.leaderboard.study import (
    ABLATION_COLUMNS,
    DEFAULT,
    KEY,
    budget_of,
    seed_statistics,
    t_factor,
)
from comad.tasks.task import TASKS

DASH = '–'


def paired_block(study: DataFrame, reference: str, headings: Mapping[tuple, str]) -> str:
    """Return by how many points a student is ahead of each other one of its size and budget.

    Differences are taken within a seed of the transfer, where both were measured under one
    protocol; behind ``±`` is half their 95 % t interval. Bold: it does not hold zero.

    Args:
        study: the table of a study.
        reference: the student.
        headings: task, metric and pool -> column of the page.
    """
    size = reference.rpartition('_')[2]
    found: dict[tuple, dict[str, tuple[tuple[str, str], dict[int, float]]]] = {}
    for row in study.to_dict('records'):
        student, key = row['student'], tuple(row[name] for name in KEY[1:])
        alike = student.endswith(f'_{size}') and budget_of(student) == budget_of(reference)
        if key not in headings or not alike:
            continue
        transfers = (int(seed.partition('/')[2]) for seed in row['seeds'].split('; '))
        values = dict(zip(transfers, map(float, row['values'].split('; ')), strict=True))
        found.setdefault(key, {})[student] = (row['protocol'], row['protocol_version']), values
    lines: dict[str, dict[str, str]] = {}
    for key, heading in headings.items():
        own = found.get(key, {})
        for student, (protocol, values) in own.items():
            if student == reference or reference not in own or own[reference][0] != protocol:
                continue
            first = own[reference][1]
            shared = {seed: first[seed] - value for seed, value in values.items() if seed in first}
            lines.setdefault(student, {})[heading] = _difference(shared)
    if not lines:
        return f'`{reference}` has not been compared yet.'
    measured = set().union(*lines.values())
    shown = [heading for heading in headings.values() if heading in measured]
    rows = [
        {f'`{reference}` against': f'`{student}`'} | {name: line.get(name, DASH) for name in shown}
        for student, line in sorted(lines.items())
    ]
    return markdown_table(DataFrame(rows))


def groups_block(path: Path, kind: str) -> str:
    """Return a table of cells, each group's default first, with differences from it in points."""
    if not path.is_file():
        return 'These have not been run yet.'
    lines: list[dict[str, str]] = []
    places: dict[str, int] = {}
    for row in read_cells(path)[list(ABLATION_COLUMNS)].fillna('').to_dict('records'):
        if row['cell'] not in places:
            places[row['cell']] = len(lines)
            lines.append({'student': f'`{row["cell"]}`', 'difference': row['difference']})
        metric = TASKS[kind].metrics[row['metric']]
        heading = f'{kind}, {metric.pool or metric.name}'
        line = lines[places[row['cell']]]
        line[heading] = f'{row["mean"]} ± {row["sd"]} ({row["n"]})' if row['mean'] else DASH
        if row['difference'] != DEFAULT:
            text = f'{row["paired_difference"]} ± {row["noise_bound"]}'
            text = f'**{text}**' if row['beyond_noise'] == 'yes' else text
            line[heading] += f', {text}' if row['beyond_noise'] else ''
    return markdown_table(DataFrame(lines).fillna(DASH))


def _difference(values: Mapping[int, float]) -> str:
    """Mean and half the 95 % t interval of differences, bold where zero is outside."""
    stats = seed_statistics(values)
    if stats is None or stats.sd is None:
        return DASH
    bound = t_factor(stats.n) * stats.sd
    text = f'{stats.mean:+.1f} ± {bound:.1f}'
    return f'**{text}**' if abs(stats.mean) > bound else text
