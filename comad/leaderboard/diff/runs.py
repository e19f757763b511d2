"""What differs between two runs: protocol, config, student, environment, metrics, curves.

A run here is a record, a run's folder, or all seeds of a row; see ``names``.
"""

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from backbones.files import sha256_of
from comad.leaderboard.diff.curves import CurveDifference, compare_curves, run_curves
from comad.leaderboard.diff.metrics import MetricDifference, compare_metrics
from comad.leaderboard.diff.names import Run
from comad.runs.logs import Curve
from comad.runs.record import resolved_name
from comad.runs.resolved import flatten, read_resolved

# Where a run writes, which seed it has and how the machine reads data: no choice of an experiment.
EXPECTED = frozenset(
    ('work_dir', 'launcher', 'resume', 'load_from', 'log_level', 'randomness.seed')
    + ('run.digest', 'run.source', 'run.records', 'run.seed', 'run.pretrain_seed')
    + ('model.backbone.init_cfg.seed',)
)
EXPECTED_ENDS = ('.num_workers', '.persistent_workers', '.pin_memory', '.prefetch_factor')
# What two pretrainings never share, and what says nothing about the weights.
OF_THE_PRETRAINING = frozenset(('pretrain_seconds', 'git_commit'))


@dataclass(frozen=True)
class Difference:
    """One entry with a value on either side; None where a side has no such entry."""

    key: str
    a: Any
    b: Any


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


def compare_runs(first: Run, second: Run) -> RunsDifference:
    """Compare two runs; configs and curves of rows are those of the first seeds both have."""
    keys = _same_seeds(first, second)
    pair = tuple(run.records.get(key) for run, key in zip((first, second), keys, strict=True))
    found = RunsDifference((first.name, second.name), (list(first.records), list(second.records)))
    found.notes += dict.fromkeys([*first.notes, *second.notes])
    if None not in pair:
        a, b = pair
        found.protocol = differences(_protocol(a), _protocol(b))
        found.student = differences(_student(a), _student(b))
        found.environment = differences(_environment(a), _environment(b))
    found.metrics = compare_metrics(first, second)
    if found.protocol:
        apart = {'beyond_noise': None, 'basis': 'not comparable, the protocols differ'}
        found.metrics = [replace(metric, **apart) for metric in found.metrics]
    folders = [run.folders.get(key) for run, key in zip((first, second), keys, strict=True)]
    _compare_configs(found, folders, pair)
    found.drawn = tuple(run_curves(folder) if folder else {} for folder in folders)
    absent = [n for n, curves in zip(found.names, found.drawn, strict=True) if not curves]
    if absent:
        found.curves_note = f'no scalars of {" and ".join(dict.fromkeys(absent))}'
    else:
        found.curves = compare_curves(*found.drawn)
        if max(len(first.records), len(second.records)) > 1:
            found.curves_note = f'of {keys[0]} and {keys[1]}'
    return found


def differences(
    first: Mapping[str, Any], second: Mapping[str, Any], prefix: str = ''
) -> list[Difference]:
    """Compare two nested dictionaries by dotted key, sorted."""
    a, b = flatten(first, prefix), flatten(second, prefix)
    # NaN is equal to itself here, and 1 is not True.
    changed = (key for key in sorted({*a, *b}) if repr(a.get(key)) != repr(b.get(key)))
    return [Difference(key, a.get(key), b.get(key)) for key in changed]


def _same_seeds(first: Run, second: Run) -> tuple[str, str]:
    """File names of one record each, of the same seeds where both have some."""
    seeds = [
        {tuple(record['seeds'].values()): file for file, record in run.records.items()}
        for run in (first, second)
    ]
    for seed in sorted(seeds[0]):
        if seed in seeds[1]:
            return seeds[0][seed], seeds[1][seed]
    return next(iter(first.records), ''), next(iter(second.records), '')


def _compare_configs(
    found: RunsDifference,
    folders: Iterable[Path | None],
    pair: tuple[dict[str, Any] | None, dict[str, Any] | None],
) -> None:
    files, configs = [], []
    for folder, record in zip(folders, pair, strict=True):
        file = folder and resolved_file(folder, record)
        try:
            configs.append(read_resolved(file) if file else None)
        except ValueError as error:
            found.notes.append(str(error))
            file = None
        files.append(file)
    gone = [name for name, file in zip(found.names, files, strict=True) if file is None]
    if gone:
        found.config_source = (
            f'protocol fields and config texts of the records: no resolved config of '
            f'{" and ".join(dict.fromkeys(gone))} is there'
        )
        if None not in pair:
            texts = [record['config'].get('source', '') for record in pair]
            found.config = [*found.protocol]
            if texts[0] != texts[1]:
                found.config.append(Difference('config.source', *texts))
        return
    found.config_source = f'resolved configs {files[0]} and {files[1]}'
    for file, record in zip(files, pair, strict=True):
        stated = record and record['config'].get('resolved_sha256')
        if stated and file.name == resolved_name(record['task']) and sha256_of(file) != stated:
            found.notes.append(f'{file} is not the config that its record names (other sha256)')
    for difference in differences(*configs):
        ours = difference.key in EXPECTED or difference.key.endswith(EXPECTED_ENDS)
        (found.expected if ours else found.config).append(difference)


def resolved_file(folder: Path, record: Mapping[str, Any] | None = None) -> Path | None:
    """Return the resolved config that lies in a run's folder, None without one.

    What the evaluation itself left comes first, then MMEngine's dump of the last start, which is
    called like the config; a folder with several files needs the record to tell.
    """
    if record is not None:
        for name in (resolved_name(record['task']), Path(record['config']['path']).name):
            if (folder / name).is_file():
                return folder / name
    found = sorted(folder.glob('*.py'))
    starts = sorted(folder.glob('*/vis_data/config.py'))
    return found[0] if len(found) == 1 else (starts[-1] if starts else None)


def _protocol(record: Mapping[str, Any]) -> dict[str, Any]:
    return {
        **{key: record.get(key) for key in ('task', 'dataset', 'split')},
        'protocol': record['protocol'],
    }


def _student(record: Mapping[str, Any]) -> dict[str, Any]:
    student = {k: v for k, v in record['student'].items() if k not in OF_THE_PRETRAINING}
    teachers = student.pop('teachers', None) or ()
    student['teachers'] = {str(t.get('family', '?')): t for t in teachers}
    return {'student': student}


def _environment(record: Mapping[str, Any]) -> dict[str, Any]:
    student = {k: record['student'].get(k) for k in sorted(OF_THE_PRETRAINING)}
    costs = {k: record.get(k) for k in ('wall_seconds', 'images_seen', 'cost', 'checkpoint')}
    return {**record['environment'], **costs, 'student': student}


def _plain(node: Any) -> Any:
    """JSON has no infinities and no NaN: they become texts."""
    if isinstance(node, Mapping):
        return {str(key): _plain(value) for key, value in node.items()}
    if isinstance(node, (list, tuple)):
        return [_plain(value) for value in node]
    if isinstance(node, float) and not math.isfinite(node):
        return str(node)
    return node if isinstance(node, (str, int, float, type(None))) else json.dumps(str(node))
