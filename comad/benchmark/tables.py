"""Seconds that the leaderboard takes for many records: the whole command, and its parts.

Records are made up, three seeds of each student and task, with every field that a record has.
"""

import argparse
import hashlib
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from comad.data.identity import DataIdentity
from comad.runs.place import worded
from comad.runs.record import Record, seal, write_record
from comad.runs.track import FULL
from comad.tasks.task import TASKS, Task

SEEDS = 3


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the measurement."""
    for name, default in (('records', 1000), ('rounds', 5)):
        text = '(default %(default)s)'
        parser.add_argument(f'--{name}', type=int, default=default, metavar='N', help=text)


def run(args: argparse.Namespace) -> int:
    """Measure and print medians with the fastest and slowest round; returns the exit status."""
    for name in ('records', 'rounds'):
        if getattr(args, name) < 1:
            raise ValueError(f'--{name} is {getattr(args, name)}, at least 1 is needed')
    seconds: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory() as folder:
        records, out = Path(folder) / 'records', Path(folder) / 'out'
        for record, _ in zip(made_up(), range(args.records), strict=False):
            write_record(records, record)
        for _ in range(args.rounds):
            for part, spent in _measure(records, out):
                seconds.setdefault(part, []).append(spent)
    lines = [f'{args.records} records, {args.rounds} rounds, median (fastest-slowest) in seconds']
    for part, spent in seconds.items():
        bounds = f'({min(spent):.2f}-{max(spent):.2f})'
        lines.append(f'{part:32}{statistics.median(spent):6.2f} {bounds}')
    sys.stdout.write('\n'.join(lines) + '\n')
    return 0


def made_up() -> Iterator[Record]:
    """Records of ever more students, without an end."""
    number = 0
    while True:
        for task in TASKS.values():
            for seed in range(SEEDS):
                yield _record(task, f'method{number}', seed)
        number += 1


def call(*arguments: object) -> None:
    """The whole leaderboard command, in a process of its own.

    Raises:
        RuntimeError: it failed.
    """
    command = [sys.executable, '-m', 'comad.commands.leaderboard', *map(str, arguments)]
    environment = {**os.environ, 'PYTHONPATH': os.pathsep.join(sys.path)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f'the leaderboard failed: {done.stderr}')


def _measure(records: Path, out: Path) -> Iterator[tuple[str, float]]:
    times = [time.perf_counter()]

    def spent() -> float:
        times.append(time.perf_counter())
        return times[-1] - times[-2]

    call('--records', records, '--out', out, '--quiet')
    yield worded('python tools/leaderboard.py'), spent()
    subprocess.run([sys.executable, '-c', 'import pandas'], check=True)
    yield '  importing pandas alone', spent()
    from comad.leaderboard.admission import read_admitted
    from comad.leaderboard.tables import build_tables, figures, to_csv

    spent()
    found = read_admitted(records, FULL)
    yield '  reading the records', spent()
    tables = build_tables(figures(found.accepted))
    yield '  building the tables', spent()
    for table in tables.values():
        to_csv(table)
    yield '  writing them as CSV', spent()


def _record(task: Task, method: str, seed: int) -> Record:
    def digest(*parts: object) -> str:
        return hashlib.sha256(repr((task.kind, method, seed, *parts)).encode()).hexdigest()

    def data(split: str) -> DataIdentity:
        counts = {'images': 50_000, 'classes': 1000, 'problems': 0}
        manifest = hashlib.sha256(split.encode()).hexdigest()
        return DataIdentity(name=task.dataset, split=split, manifest=manifest, **counts)

    commit = hashlib.sha1(b'commit').hexdigest()
    values = {key: metric.upper * (0.5 + seed / 100) for key, metric in task.metrics.items()}
    place = f'{task.kind}/{method}_tiny/seed{seed}'
    teacher = {
        'family': 'mae',
        'file': 'teachers/mae.pth',
        'digest': commit,
        'licence': 'a licence',
    }
    architecture = {
        'img_size': 224,
        'patch_size': 16,
        'embed_dim': 192,
        'depth': 12,
        'num_heads': 3,
    }
    return seal(
        {
            'task': task.kind,
            'sample': False,
            'dataset': data(task.split),
            'train_dataset': data('train'),
            'protocol': {
                'name': 'made_up',
                'version': 1,
                'fields': dict.fromkeys(task.protocol_fields, 'as in every record'),
            },
            'metrics': values,
            'missing': {},
            'other_metrics': {},
            'student': {
                'name': f'{method}_tiny',
                'method': method,
                'method_version': '1',
                'arch': 'tiny',
                'architecture': architecture,
                'params_m': 5.5,
                'config_digest': hashlib.sha256(method.encode()).hexdigest(),
                'epochs': 300.0,
                'iterations': 93_750,
                'images_seen': 384_000_000,
                'data': data('train'),
                'teachers': [teacher] * 3,
                'licence': 'a licence',
                'pretrain_seconds': 3600.0,
                'pretrain_gflop_per_image': 61.2,
                'git_commit': commit,
                'sha256': hashlib.sha256(f'{method} {seed}'.encode()).hexdigest(),
            },
            'seeds': {'pretrain': seed, 'transfer': seed},
            'config': {
                'path': task.leaf(f'{method}_tiny'),
                'digest': digest('config'),
                'source': 'a config\n' * 20,
                'work_dir': f'work_dirs/{place}',
                'resolved_sha256': digest('resolved'),
            },
            'environment': {
                'versions': dict.fromkeys(('torch', 'timm', 'mmengine', 'numpy'), '1.0'),
                'device': 'cpu',
                'git_commit': commit,
                'git_dirty': False,
            },
            'checkpoint': {'file': 'last.pth', 'sha256': digest('checkpoint')},
            'cost': {
                'device_kind': 'cpu',
                'processes': 1,
                'device_hours': 1.0,
                'images_per_second': 100.0,
                'gflops': 2.5,
            },
            'wall_seconds': 3600.0,
            'images_seen': 1000,
        }
    )
