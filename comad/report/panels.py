"""The page's figures: accuracy over cost, learning curves, what a gate did."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from comad.report.curves import Band, over_seeds, run_curves
from comad.report.figures import Point, draw_bands, draw_cost
from comad.report.sources import pretrain_folder, transfer_folder
from comad.report.view import Board
from comad.runs.logs import Curve, read_starts
from comad.runs.record import Record
from comad.tasks.task import TASKS

# In GFLOP, the largest first.
UNITS = (('EFLOP', 1e9), ('PFLOP', 1e6), ('TFLOP', 1e3), ('GFLOP', 1))
NO_FOLDER = 'folder not on this machine'
# What a gate logs: title, how the names of its curves start or end, unit.
GATE = (
    ('teacher shares', ('share_',), (), 'share of the gate'),
    ('teacher agreement', ('agreement_',), (), 'cosine'),
    ('gate entropy', ('gate_entropy',), (), 'nats'),
    ('effective ranks', (), ('_rank',), 'directions'),
)


@dataclass(frozen=True)
class Panel:
    """A figure: SVG for HTML, with its title."""

    title: str
    svg: str


@dataclass
class Section:
    """Figures of one kind, and one line for all that could not be drawn."""

    panels: list[Panel] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


@dataclass
class Run:
    """One folder's curves: name -> step -> value."""

    student: str
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
        names = sorted({record.data['student']['name'] for record in records})
        self.series = {name: number for number, name in enumerate(names)}
        seen: set[tuple[str, int]] = set()
        for record in records:
            data, student = record.data, record.data['student']['name']
            seed = data['seeds']['pretrain']
            if data['student']['sha256'] is not None and (student, seed) not in seen:
                seen.add((student, seed))
                label = f'pretraining of {student}, seed {seed}'
                run = self._read(pretrain_folder(root, record), student, label)
                self.pretrainings.setdefault(student, []).extend(run)
            if data['images_seen']:  # without a training there is no curve
                label = record.file.removesuffix('.json')
                run = self._read(transfer_folder(root, record), student, label)
                self.transfers.setdefault((data['task'], student), []).extend(run)

    def _read(self, folder: Path | None, student: str, label: str) -> list[Run]:
        if folder is None:
            self.missing.append(f'{label}: no learning curve: {NO_FOLDER}')
            return []
        curves, gaps = run_curves(folder)
        self.missing += [f'{label}: {name} has values that are no number' for name in gaps]
        if not curves:
            self.missing.append(f'{label}: no learning curve: nothing was logged in its folder')
            return []
        epochs = any('epoch' in entry for start in read_starts(folder) for entry in start)
        return [Run(student, curves, epochs)]


def cost_section(boards: Sequence[Board], series: Mapping[str, int]) -> Section:
    """Plot every group of several measured rows over the compute of their pretraining."""
    section = Section()
    for board in boards:
        for group in board.groups:
            points = []
            for line in group.lines:
                if not line.records or line.row is None:
                    continue
                student = line.records[0].data['student']
                gflop, images = student['pretrain_gflop_per_image'], student['images_seen']
                known = bool(gflop and images)
                if not known and student['sha256'] is not None:
                    name = f'{group.title}, {group.metric}: {student["name"]}'
                    section.notes.append(f'{name} is not drawn: its pretraining tells no compute')
                    continue
                cost = gflop * images if known else None
                stats = line.row.statistics
                label = student['name'].removesuffix('_tiny')
                label = label if known else f'{label} (none)'
                points.append(Point(label, series[student['name']], cost, stats.mean, stats.sd))
            if len(points) > 1:
                title = f'{group.metric}: {group.title}'
                name = f'cost {board.name} {title} {group.protocol}'
                unit, points = _in_unit(points)
                svg = draw_cost(name, points, f'pretraining ({unit})', f'{group.metric} (%)')
                section.panels.append(Panel(title, svg))
    return section


def _in_unit(points: Sequence[Point]) -> tuple[str, list[Point]]:
    """Costs in GFLOP, brought to the unit that makes the largest one at least 1."""
    most = max((point.cost for point in points if point.cost is not None), default=0)
    unit, size = next((u, s) for u, s in UNITS if most >= s or s == 1)
    costs = (None if point.cost is None else point.cost / size for point in points)
    return unit, [replace(p, cost=cost) for p, cost in zip(points, costs, strict=True)]


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
    for kind in (kind for kind in TASKS if any(k == kind for k, _ in runs.transfers)):
        _add_transfer(section, kind, runs)
    return section


def gate_section(runs: Runs) -> Section:
    """What a consensus method tells of its gate, one row of panels per student."""
    section = Section()
    for student, seeds in sorted(runs.pretrainings.items()):
        for title, starts, ends, unit in GATE:
            names = [
                name
                for name in _names(seeds)
                if name.startswith(starts) or (ends and name.endswith(ends))
            ]
            bands = {_label(name): (i, _band(seeds, name)) for i, name in enumerate(names)}
            limits = (0, 1) if title == 'teacher shares' else None
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


def _add_transfer(section: Section, kind: str, runs: Runs) -> None:
    own = {student: seeds for (k, student), seeds in sorted(runs.transfers.items()) if k == kind}
    task = kind.replace('_', ' ')
    bands = {s: (runs.series[s], _band(seeds, 'loss')) for s, seeds in own.items()}
    _add(section, f'{task}: training loss', bands, 'iteration', 'loss')
    epochs = any(run.epochs for seeds in own.values() for run in seeds)
    for key, metric in TASKS[kind].metrics.items():
        bands = {}
        for student, seeds in own.items():
            band = _band(seeds, key)
            if band is not None and len(band.steps) > 1:
                percent = Band(
                    band.steps, metric.percent(band.mean), metric.percent(band.sd), band.seeds
                )
                bands[student] = (runs.series[student], percent)
        if bands:
            x = 'epoch' if epochs else 'iteration'
            _add(section, f'{task}: validation, {key}', bands, x, f'{key} (%)')
        elif any(key in run.curves for seeds in own.values() for run in seeds):
            section.notes.append(f'{task}: {key} was validated once, at the end: no curve')


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
    try:
        return over_seeds([run.curves.get(name, {}) for run in seeds])
    except ValueError:
        return None


def _names(seeds: Iterable[Run]) -> list[str]:
    return list(dict.fromkeys(name for run in seeds for name in run.curves))


def _label(name: str) -> str:
    for prefix in ('share_', 'agreement_'):
        name = name.removeprefix(prefix)
    return name.replace('_', ' ')
