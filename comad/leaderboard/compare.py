"""What differs between two runs: protocol, config, student, environment, figures, curves.

A run here is a record, a run's folder, or all seeds of a row; see `comad.leaderboard.find_run`.
"""

import json
import math
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from backbones.files import sha256_of
from comad.leaderboard.find_run import Run
from comad.leaderboard.tables import Statistics, is_tie, noise, statistics
from comad.runs.logs import Curve, is_number, read_curves
from comad.runs.record import Record, resolved_name
from comad.runs.resolved import flatten, read_resolved
from comad.tasks.task import TASKS

# Where a run writes, which seed it has and how the machine reads data: no choice of an experiment.
EXPECTED = frozenset(
    ('work_dir', 'launcher', 'resume', 'load_from', 'log_level', 'randomness.seed')
    + ('run.digest', 'run.source', 'run.records', 'run.seed', 'run.pretrain_seed')
    + ('model.backbone.init_cfg.seed',)
)
EXPECTED_ENDS = ('.num_workers', '.persistent_workers', '.pin_memory', '.prefetch_factor')
# What two pretrainings never share, and what says nothing about the weights.
SECTIONS = ('metrics', 'other_metrics')
OF_THE_PRETRAINING = ('git_commit', 'pretrain_seconds')
# What an entry of a log says beside figures: time and memory differ between any two runs.
NO_FIGURES = frozenset(
    ('step', 'iter', 'epoch', 'lr', 'base_lr', 'time', 'data_time', 'memory', 'eta', 'mfu')
    + ('images_per_second', 'data_wait')
)
UNKNOWN = 'noise unknown: one run each, no other seeds'


@dataclass(frozen=True)
class Difference:
    """One entry with a value on either side; None where a side has no such entry."""

    key: str
    a: Any
    b: Any


@dataclass(frozen=True)
class MetricDifference:
    """One figure of two runs; percent for the metrics of tables, as reported for others.

    Attributes:
        a: Mean, sd and n of the first; None where it has no such figure.
        difference: Second minus first.
        noise: 2 sqrt(s1^2 / n1 + s2^2 / n2); None where a side's spread is unknown.
        beyond_noise: Whether the difference is no tie; None where that cannot be told.
        basis: Where the spread comes from, in words.
    """

    metric: str
    a: Statistics | None
    b: Statistics | None
    difference: float | None
    noise: float | None
    beyond_noise: bool | None
    basis: str


@dataclass(frozen=True)
class CurveDifference:
    """Two runs' curves of one figure; steps as the run logs them (validation: often epochs).

    Attributes:
        equal_until: Last step of the bit-equal beginning; None where the first one differs.
        first_difference: First step that differs or that one curve lacks; None for equal curves.
        final: Last figure of each; None without any.
        largest_gap: Largest distance over shared steps, and its step; None without shared steps.
    """

    name: str
    steps: tuple[int, int]
    equal_until: int | None
    first_difference: int | None
    final: tuple[float | None, float | None]
    largest_gap: float | None
    largest_gap_at: int | None


@dataclass
class RunsDifference:
    """Everything that was compared.

    Attributes:
        protocol: Differences that forbid comparing figures: task, data, protocol, its fields.
        config: Differences of the resolved configs; expected ones (folders, seeds) apart.
        config_source: Which configs were compared, in words.
        curves: One entry per figure; None where a run left no scalars.
        drawn: The curves themselves, of either side.
    """

    names: tuple[str, str]
    records: tuple[list[str], list[str]]
    protocol: list[Difference] = field(default_factory=list)
    config: list[Difference] = field(default_factory=list)
    expected: list[Difference] = field(default_factory=list)
    config_source: str = ''
    student: list[Difference] = field(default_factory=list)
    environment: list[Difference] = field(default_factory=list)
    metrics: list[MetricDifference] = field(default_factory=list)
    curves: list[CurveDifference] | None = None
    curves_note: str = ''
    drawn: tuple[dict[str, Curve], dict[str, Curve]] = field(default_factory=lambda: ({}, {}))
    notes: list[str] = field(default_factory=list)

    @property
    def equal(self) -> bool:
        """Whether nothing but environment, costs and expected keys differs."""
        parted = any(curve.first_difference is not None for curve in self.curves or ())
        changed = any(metric.a != metric.b for metric in self.metrics)
        return not (self.protocol or self.config or self.student or changed or parted)

    def as_dict(self) -> dict[str, Any]:
        """The same as plain Python for JSON, curves left out but for their differences."""
        entries = asdict(self)
        del entries['drawn']
        return {'kind': 'runs', 'equal': self.equal, **_plain(entries)}


class Side(NamedTuple):
    """What configs and curves of a run are taken from: one of its records, and where it ran."""

    name: str
    file: str
    record: Record | None
    folder: Path | None


def compare_runs(first: Run, second: Run) -> RunsDifference:
    """Compare two runs; configs and curves of rows are those of the first seeds both have."""
    sides = _sides(first, second)
    found = RunsDifference((first.name, second.name), (list(first.records), list(second.records)))
    found.notes += dict.fromkeys([*first.notes, *second.notes])
    a, b = (side.record for side in sides)
    if a and b:
        found.protocol = differences(_protocol(a), _protocol(b))
        found.student = differences(_student(a), _student(b))
        found.environment = differences(_environment(a), _environment(b))
    found.metrics = compare_metrics(first, second)
    if found.protocol:
        apart = {'beyond_noise': None, 'basis': 'not comparable, the protocols differ'}
        found.metrics = [replace(metric, **apart) for metric in found.metrics]
    _compare_configs(found, sides)
    found.drawn = tuple(run_curves(side.folder) if side.folder else {} for side in sides)
    if not all(found.drawn):
        found.curves_note = f'no scalars of {_names(sides, found.drawn)}'
        return found
    found.curves = compare_curves(*found.drawn)
    if max(len(first.records), len(second.records)) > 1:
        found.curves_note = f'of {sides[0].file} and {sides[1].file}'
    return found


def differences(first: Mapping[str, Any], second: Mapping[str, Any]) -> list[Difference]:
    """Compare two nested dictionaries by dotted key, sorted."""
    a, b = flatten(first), flatten(second)
    # NaN is equal to itself here, and 1 is not True.
    changed = (key for key in sorted({*a, *b}) if repr(a.get(key)) != repr(b.get(key)))
    return [Difference(key, a.get(key), b.get(key)) for key in changed]


def _sides(*runs: Run) -> list[Side]:
    """One record of each, of the same seeds where both have some."""
    a, b = (
        {(r.seeds.pretrain, r.seeds.transfer): file for file, r in run.records.items()}
        for run in runs
    )
    shared = min(a.keys() & b.keys(), default=None)
    files = (own.get(shared, next(iter(own.values()), '')) for own in (a, b))
    return [
        Side(run.name, file, run.records.get(file), run.folders.get(file))
        for run, file in zip(runs, files, strict=True)
    ]


def _names(sides: Sequence[Side], there: Iterable[Any]) -> str:
    """Those of which something is not there."""
    gone = (side.name for side, own in zip(sides, there, strict=True) if not own)
    return ' and '.join(dict.fromkeys(gone))


def _protocol(record: Record) -> dict[str, Any]:
    names = ('task', 'dataset', 'train_dataset', 'protocol')
    return msgspec.to_builtins({name: getattr(record, name) for name in names})


def _student(record: Record) -> dict[str, Any]:
    student = msgspec.to_builtins(record.student)
    teachers = {teacher['family'] or '?': teacher for teacher in student['teachers']}
    own = {name: value for name, value in student.items() if name not in OF_THE_PRETRAINING}
    return {'student': own | {'teachers': teachers}}


def _environment(record: Record) -> dict[str, Any]:
    names = ('wall_seconds', 'images_seen', 'cost', 'checkpoint')
    costs = {name: getattr(record, name) for name in names}
    student = {name: getattr(record.student, name) for name in OF_THE_PRETRAINING}
    environment = msgspec.to_builtins(record.environment)
    return msgspec.to_builtins({**environment, **costs, 'student': student})


def _compare_configs(found: RunsDifference, sides: Sequence[Side]) -> None:
    files, configs = [], []
    for side in sides:
        file = side.folder and resolved_file(side.folder, side.record)
        try:
            configs.append(file and read_resolved(file))
        except ValueError as error:
            found.notes.append(str(error))
            file = None
        files.append(file)
    records = [side.record for side in sides]
    if not all(files):
        found.config_source = (
            f'protocol fields and config texts of the records: no resolved config of '
            f'{_names(sides, files)} is there'
        )
        if all(records):
            texts = [record.config.source for record in records]
            found.config = [*found.protocol]
            if texts[0] != texts[1]:
                found.config.append(Difference('config.source', *texts))
        return
    found.config_source = f'resolved configs {files[0]} and {files[1]}'
    for file, record in zip(files, records, strict=True):
        stated = record and record.config.resolved_sha256
        if stated and file.name == resolved_name(record.task) and sha256_of(file) != stated:
            found.notes.append(f'{file} is not the config that its record names (other sha256)')
    for entry in differences(*configs):
        ours = entry.key in EXPECTED or entry.key.endswith(EXPECTED_ENDS)
        (found.expected if ours else found.config).append(entry)


def resolved_file(folder: Path, record: Record | None = None) -> Path | None:
    """Return the resolved config that lies in a run's folder, None without one.

    What the evaluation itself left comes first, then MMEngine's dump of the last start, which is
    called like the config; a folder with several files needs the record to tell.
    """
    if record is not None:
        for name in (resolved_name(record.task), Path(record.config.path).name):
            if (folder / name).is_file():
                return folder / name
    found = sorted(folder.glob('*.py'))
    starts = sorted(folder.glob('*/vis_data/config.py'))
    return found[0] if len(found) == 1 else (starts[-1] if starts else None)


def compare_metrics(first: Run, second: Run) -> list[MetricDifference]:
    """Compare every figure that either side's records hold, those of tables first."""
    records = [*first.records.values(), *second.records.values()]
    names = [(section, k) for section in SECTIONS for r in records for k in getattr(r, section)]
    return [_compare_metric((first, second), *name) for name in dict.fromkeys(names)]


def _compare_metric(runs: Sequence[Run], section: str, key: str) -> MetricDifference:
    own = [_statistics(run.records.values(), section, key) for run in runs]
    if None in own:
        absent = runs[own.index(None)].name
        return MetricDifference(key, *own, None, None, None, f'no figure of {absent}')
    used, borrowed = list(own), []
    for side, (run, figure) in enumerate(zip(runs, own, strict=True)):
        row = _statistics([*run.records.values(), *run.siblings], section, key)
        if figure.n == 1 and row.sd is not None:
            used[side] = Statistics(figure.mean, row.sd, 1)
            borrowed.append((run.name, row.n))
    difference = own[1].mean - own[0].mean
    single = [run.name for run, figure in zip(runs, used, strict=True) if figure.sd is None]
    if single:
        basis = UNKNOWN if len(single) == 2 else f'noise unknown: one run of {single[0]}'
        beyond = None if difference else False
        return MetricDifference(key, *own, difference, None, beyond, basis)
    if len(borrowed) == 2:
        (_, m), (_, n) = borrowed
        basis = f'one run each, sd of the {m} and {n} seeds of their rows'
    elif borrowed:
        basis = 'one run of {}, sd of the {} seeds of its row'.format(*borrowed[0])
    else:
        basis = f'{own[0].n} and {own[1].n} seeds'
    return MetricDifference(key, *own, difference, noise(*used), not is_tie(*used), basis)


def _statistics(records: Iterable[Record], section: str, key: str) -> Statistics | None:
    values = []
    for record in records:
        if (value := getattr(record, section).get(key)) is not None:
            if section == 'metrics' and key in (metrics := TASKS[record.task].metrics):
                value = metrics[key].percent(value)
            values.append((record.seeds.pretrain, record.seeds.transfer, value))
    return statistics(values) if values else None


def run_curves(folder: str | os.PathLike[str]) -> dict[str, Curve]:
    """Return the losses and validation metrics of a run's folder by name; none without a log."""

    def figures(entry: Mapping[str, Any]) -> dict[str, float]:
        known = {k: float(v) for k, v in entry.items() if is_number(v) and k not in NO_FIGURES}
        return {k: v for k, v in known.items() if 'loss' in k or 'iter' not in entry}

    return read_curves(Path(folder), figures)


def compare_curves(
    first: Mapping[str, Curve], second: Mapping[str, Curve]
) -> list[CurveDifference]:
    """Compare the curves of two runs by name; a name that one lacks is compared with nothing."""
    names = sorted({*first, *second})
    return [_compare_curve(name, first.get(name, {}), second.get(name, {})) for name in names]


def _compare_curve(name: str, first: Curve, second: Curve) -> CurveDifference:
    shared = [step for step in first if step in second]
    # NaN is equal to itself here.
    pairs = {step: {first[step], second[step]} for step in shared}
    equal = [step for step, pair in pairs.items() if len(pair) == 1 or all(map(math.isnan, pair))]
    apart = sorted({*first, *second} - {*equal})
    before = [step for step in equal if not apart or step < apart[0]]
    gaps = {step: abs(first[step] - second[step]) for step in shared}
    gaps = {step: gap for step, gap in gaps.items() if math.isfinite(gap)}
    widest = max(gaps, key=gaps.get, default=None)
    return CurveDifference(
        name,
        (len(first), len(second)),
        max(before, default=None),
        apart[0] if apart else None,
        tuple(curve[max(curve)] if curve else None for curve in (first, second)),
        gaps.get(widest),
        widest,
    )


def _plain(node: Any) -> Any:
    """JSON has no infinities and no NaN: they become texts."""
    if isinstance(node, Mapping):
        return {str(key): _plain(value) for key, value in node.items()}
    if isinstance(node, (list, tuple)):
        return [_plain(value) for value in node]
    if isinstance(node, float) and not math.isfinite(node):
        return str(node)
    return node if isinstance(node, (str, int, float, type(None))) else json.dumps(str(node))
