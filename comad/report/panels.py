"""Which figures the page has: accuracy over cost, learning curves, what a gate did."""

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from backbones.files import read_json
from comad.report.figures import Band, Point, draw_bands, draw_cost, over_seeds
from comad.report.tables import NO_FOLDER, Board, Group, words
from comad.runs.logs import Curve, is_number, read_curves, read_starts
from comad.runs.place import folder_below
from comad.runs.record import Record
from comad.tasks.task import TASKS, Metric

# In GFLOP, the largest first.
UNITS = (('EFLOP', 1e9), ('PFLOP', 1e6), ('TFLOP', 1e3), ('GFLOP', 1))
# What a gate logs: title, pattern of its curves' names, unit, limits.
GATE = (
    ('teacher shares', 'share_', 'share of the gate', (0, 1)),
    ('teacher agreement', 'agreement_', 'cosine', None),
    ('gate entropy', 'gate_entropy', 'nats', None),
    ('effective ranks', '.*_rank$', 'directions', None),
)


class Panel(NamedTuple):
    """A figure: SVG for HTML, with its title."""

    title: str
    svg: str


@dataclass
class Section:
    """Figures of one kind, and one line for all that could not be drawn."""

    panels: list[Panel] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


class Run(NamedTuple):
    """One folder's curves: name -> step -> value; a validation counts in epochs or iterations."""

    curves: dict[str, Curve]
    epochs: bool


class Runs:
    """Scalars of all runs that records name, each folder read once.

    Attributes:
        pretrainings: student -> its seeds.
        transfers: (task, student) -> its seeds.
        missing: one line per folder without curves.
        series: student -> number of its colour, the same in every figure.
    """

    def __init__(self, records: Iterable[Record], root: Path) -> None:
        self.pretrainings: dict[str, list[Run]] = {}
        self.transfers: dict[tuple[str, str], list[Run]] = {}
        self.missing: list[str] = []
        records = list(records)
        names = sorted({record.student.name for record in records})
        self.series = {name: number for number, name in enumerate(names)}
        seen: set[str] = set()
        for record in records:
            student = record.student.name
            if record.student.sha256 is not None and record.pretrain_dir not in seen:
                seen.add(record.pretrain_dir)
                label = f'pretraining of {student}, seed {record.seeds.pretrain}'
                runs = self.pretrainings.setdefault(student, [])
                runs += self._read(pretrain_folder(root, record), label)
            if record.images_seen:  # without a training there is no curve
                runs = self.transfers.setdefault((record.task, student), [])
                folder = folder_below(root, record.config.work_dir)
                runs += self._read(folder, Path(record.file).stem)

    def _read(self, folder: Path | None, label: str) -> list[Run]:
        curves, gaps = run_curves(folder) if folder else ({}, [])
        self.missing += [f'{label}: {name} has values that are no number' for name in gaps]
        if not curves:
            why = 'nothing was logged in its folder' if folder else NO_FOLDER
            self.missing.append(f'{label}: no learning curve: {why}')
            return []
        epochs = any('epoch' in entry for start in read_starts(folder) for entry in start)
        return [Run(curves, epochs)]


def pretrain_folder(root: Path, record: Record) -> Path | None:
    """Folder of the student's pretraining; None where it is not below ``root`` or not the same.

    A folder whose student.json names another digest than the record belongs to a later run.
    """
    folder = folder_below(root, record.pretrain_dir) if record.student.sha256 else None
    if folder is None:
        return None
    try:
        digest = read_json(folder / 'student.json').get('sha256')
    except (OSError, ValueError):
        digest = None
    return folder if digest in (None, record.student.sha256) else None


def run_curves(folder: Path) -> tuple[dict[str, Curve], list[str]]:
    """Return name -> step -> value, and the names of curves with values that are no finite number.

    The prefix of a metric (``coco/``) is dropped; such values are left out.
    """

    def figures(entry: Mapping[str, Any]) -> dict[str, float]:
        own = {k: v for k, v in entry.items() if k not in ('step', 'iter', 'epoch')}
        return {k.rsplit('/', 1)[-1]: float(v) for k, v in own.items() if is_number(v)}

    logged = read_curves(folder, figures)
    curves = {
        name: {step: value for step, value in curve.items() if math.isfinite(value)}
        for name, curve in logged.items()
    }
    gaps = [name for name, curve in curves.items() if len(curve) < len(logged[name])]
    return {name: curve for name, curve in curves.items() if curve}, gaps


def cost_section(boards: Sequence[Board], series: Mapping[str, int]) -> Section:
    """Plot every group of several measured rows over the compute of their pretraining."""
    section = Section()
    for board in boards:
        for group in board.groups:
            points = _points(group, series, section.notes)
            if len(points) > 1:
                title = f'{group.metric}: {group.title}'
                most = max((point.cost or 0 for point in points), default=0)
                unit, size = next((u, s) for u, s in UNITS if most >= s or s == 1)
                points = [p._replace(cost=p.cost and p.cost / size) for p in points]
                name = f'cost {board.name} {title} {group.protocol}'
                svg = draw_cost(name, points, f'pretraining ({unit})', f'{group.metric} (%)')
                section.panels.append(Panel(title, svg))
    return section


def _points(group: Group, series: Mapping[str, int], notes: list[str]) -> list[Point]:
    """Costs are GFLOP."""
    points = []
    for line in group.lines:
        if not line.measured:
            continue
        student, stats = line.records[0].student, line.cells['statistics']
        cost = (student.pretrain_gflop_per_image or 0) * (student.images_seen or 0) or None
        if cost is None and student.sha256 is not None:
            name = f'{group.title}, {group.metric}: {student.name}'
            notes.append(f'{name} is not drawn: its pretraining tells no compute')
            continue
        label = student.name.removesuffix('_tiny') + ('' if cost else ' (none)')
        points.append(Point(label, series[student.name], cost, stats.mean, stats.sd))
    return points


def learning_section(runs: Runs) -> Section:
    """Losses of every pretraining and transfer, their validation, and the online probes."""
    section = Section(notes=list(runs.missing))
    for student, seeds in sorted(runs.pretrainings.items()):
        names = [n for n in _names(seeds) if n.startswith('loss')]
        if len(names) == 2 and 'loss' in names:
            names = ['loss']  # the total and its only part are the same curve
        bands = {n: (i, _band(seeds, n)) for i, n in enumerate(names)}
        _add(section, f'pretraining of {student}', bands, 'iteration', 'loss')
    for name in ('probe_knn_mean', 'probe_knn_cls'):
        bands = {
            student: (runs.series[student], _band(seeds, name))
            for student, seeds in sorted(runs.pretrainings.items())
        }
        title = f'pretraining: online k-NN, {name.rpartition("_")[2]} pool'
        _add(section, title, bands, 'iteration', 'top-1 (%)')
    for kind in TASKS:
        own = {
            student: seeds for (k, student), seeds in sorted(runs.transfers.items()) if k == kind
        }
        bands = {s: (runs.series[s], _band(seeds, 'loss')) for s, seeds in own.items()}
        _add(section, f'{words(kind)}: training loss', bands, 'iteration', 'loss')
        for key, metric in TASKS[kind].metrics.items():
            _add_validation(section, f'{words(kind)}: ', key, metric, own, runs.series)
    return section


def gate_section(runs: Runs) -> Section:
    """What a consensus method tells of its gate, one row of panels per student."""
    section = Section()
    for student, seeds in sorted(runs.pretrainings.items()):
        for title, pattern, unit, limits in GATE:
            names = [name for name in _names(seeds) if re.match(pattern, name)]
            bands = {}
            for number, name in enumerate(names):
                label = words(name.removeprefix('share_').removeprefix('agreement_'))
                bands[label] = (number, _band(seeds, name))
            _add(section, f'{student}: {title}', bands, 'iteration', unit, limits)
    return section


def cut(sections: Sequence[Section], budget: int) -> None:
    """Leave out the figures beyond ``budget`` bytes, each named in its section's notes."""
    for section in sections:
        kept = []
        for panel in section.panels:
            budget -= len(panel.svg.encode())
            if budget >= 0:
                kept.append(panel)
            else:
                section.notes.append(f'{panel.title}: figure left out, the page would be too large')
        section.panels = kept


def _add_validation(
    section: Section,
    task: str,
    key: str,
    metric: Metric,
    own: Mapping[str, Sequence[Run]],
    series: Mapping[str, int],
) -> None:
    found = {student: _band(seeds, key) for student, seeds in own.items()}
    bands = {
        s: (series[s], band._replace(mean=metric.percent(band.mean), sd=metric.percent(band.sd)))
        for s, band in found.items()
        if band is not None and len(band.steps) > 1
    }
    epochs = any(run.epochs for seeds in own.values() for run in seeds)
    if bands:
        x = 'epoch' if epochs else 'iteration'
        _add(section, f'{task}validation, {key}', bands, x, f'{key} (%)')
    elif any(key in run.curves for seeds in own.values() for run in seeds):
        section.notes.append(f'{task}{key} was validated once, at the end: no curve')


def _add(
    section: Section,
    title: str,
    bands: Mapping[str, tuple[int, Band | None]],
    x: str,
    y: str,
    limits: tuple[float, float] | None = None,
) -> None:
    known = {label: (series, band) for label, (series, band) in bands.items() if band is not None}
    if known:
        section.panels.append(Panel(title, draw_bands(title, known, x, y, limits)))


def _band(seeds: Iterable[Run], name: str) -> Band | None:
    return over_seeds([run.curves.get(name, {}) for run in seeds])


def _names(seeds: Iterable[Run]) -> list[str]:
    return list(dict.fromkeys(name for run in seeds for name in run.curves))
