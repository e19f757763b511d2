"""Tables of what `suite` measured, as Markdown; several files come one after the other."""

import argparse
import json
import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from statistics import median
from typing import Any

from backbones.files import one_line
from comad.benchmark.spread import Spread, ratios
from comad.benchmark.suite.command import SCHEMA
from comad.runs.place import typed

FOLDER = Path('results/benchmarks')
Rows = list[list[str]]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the command."""
    parser.add_argument(
        'files',
        nargs='*',
        type=typed,
        metavar='FILE',
        help='files of `suite` (default: those in results/benchmarks/)',
    )
    parser.add_argument(
        '--into',
        type=typed,
        metavar='PAGE',
        help='put them between `<!-- suite:begin -->` and `<!-- suite:end -->` of a page as well',
    )


def run(args: argparse.Namespace) -> int:
    """Print the tables; returns the exit code."""
    files = [Path(file) for file in args.files] or default_files()
    if not files:
        raise ValueError(f'{FOLDER}/ holds no file of a suite: run `benchmark.py suite` first')
    shown = '\n\n'.join(text(read(path)) for path in files)
    sys.stdout.write(shown + '\n')
    if args.into:
        from comad.leaderboard.results_page import rewrite

        rewrite(Path(args.into), {'suite': shown})
    return 0


def default_files() -> list[Path]:
    """Files in results/benchmarks/ that a suite has written."""
    return [path for path in sorted(FOLDER.glob('*.json')) if '"parts"' in path.read_text()]


def read(path: Path) -> dict[str, Any]:
    """A file of a suite.

    Raises:
        ValueError: it is none.
    """
    try:
        result = json.loads(path.read_text(encoding='utf-8'))
        if result['schema'] != SCHEMA or not isinstance(result['parts'], dict):
            raise ValueError('another schema')
        if not {'device', 'cpu', 'threads', 'versions'} <= set(result['conditions']):
            raise ValueError('nothing of the machine')
        result['sample']
    except OSError as error:
        there = ', '.join(map(str, default_files())) or 'none: `benchmark.py suite` writes one'
        raise ValueError(f'{one_line(error)}; files of suites: {there}') from None
    except (LookupError, TypeError, ValueError) as error:
        raise ValueError(
            f'{path} is no file of `benchmark.py suite`: {type(error).__name__} {error}'
        ) from error
    return result


def text(result: Mapping[str, Any]) -> str:
    """All tables of one device."""
    where = result['conditions']
    versions = where['versions']
    commits = sorted({part['at'] or 'none' for part in result['parts'].values() if 'at' in part})
    lines = [
        f'### {where["device"]}' + (" (the sample's sizes)" if result['sample'] else ''),
        '',
        f'{where["cpu"]}, CPU threads: {where["threads"]}; torch {versions["torch"]}, timm '
        f'{versions["timm"]}; commit {", ".join(map(_short, commits))}. Random '
        'weights and images; medians (smallest-largest) of turns side by side.',
    ]
    figures = {name: part['figures'] for name, part in result['parts'].items()}
    sections = (
        *(_machine, _comad, _runner, _methods, _transfers),
        *(_loader, _clips, _overlap, _evaluation, _growth, _start_up),
    )
    for section in sections:
        if body := section(figures):
            lines += ['', *body]
    notes = [
        f'{name}: {part["state"]}'
        for name, part in result['parts'].items()
        if part['state'] != 'done'
    ]
    if notes:
        lines += ['', 'Not complete: ' + '; '.join(notes) + '.']
    if 'note' in result:
        lines += ['', result['note']]
    return '\n'.join(lines)


def _short(commit: str) -> str:
    return commit[:7] + ' with changes' * commit.endswith('+')


def table(head: Iterable[str], rows: Rows) -> list[str]:
    """A Markdown table."""
    head = list(head)
    lines = ['| ' + ' | '.join(head) + ' |', '|' + '---|' * len(head)]
    return lines + ['| ' + ' | '.join(row) + ' |' for row in rows]


def _machine(figures: Mapping[str, Any]) -> list[str]:
    found = figures.get('machine', {})
    rates = found.get('matmul_tflops', {})
    parts = [f'{rate:.3g} TFLOP/s in {name}' for name, rate in rates.items()]
    text = 'Large matrix products: ' + ', '.join(parts) + '.' if parts else ''
    if copies := found.get('copy_gb_per_second'):
        text += ' Copies: ' + ', '.join(f'{rate:.0f} GB/s {name}' for name, rate in copies.items())
        text += '.'
    return [text] if text else []


def _steps(figures: Mapping[str, Any], parts: Iterable[str]) -> Iterator[tuple[str, Any]]:
    """Measured steps of some parts, by name."""
    for part in parts:
        for name, step in figures.get(part, {}).items():
            if isinstance(step, dict) and ('seconds_per_step' in step or 'skipped' in step):
                yield name, step


def _rate(step: Mapping[str, Any], key: str = 'step') -> str:
    seconds = step['seconds_per_step'].get(key)
    if not seconds:
        return '–'
    spread = Spread.of([step['batch'] / value for value in seconds])
    digits = 0 if spread.median >= 100 else 1 if spread.median >= 1 else 2
    return spread.text(digits)


def _memory(step: Mapping[str, Any]) -> str:
    return f'{step["peak_memory_gib"]:.1f}' if 'peak_memory_gib' in step else '–'


def _ratio(step: Mapping[str, Any], slow: str, fast: str) -> str:
    seconds = step['seconds_per_step']
    return ratios(seconds, slow, fast).text() if {slow, fast} <= set(seconds) else '–'


def utilisation(step: Mapping[str, Any], figures: Mapping[str, Any]) -> str:
    """Percent of the measured rate of large matrix products that a step's own work reaches."""
    rates = figures.get('machine', {}).get('figures', figures.get('machine', {}))
    rate = rates.get('matmul_tflops', {}).get(step['precision'])
    if not rate or 'gflop_per_image' not in step:
        return '–'
    seconds = Spread.of(step['seconds_per_step']['step']).median
    used = step['gflop_per_image'] * step['batch'] / seconds / 1000
    return f'{100 * used / rate:.0f} %'


def _comad(figures: Mapping[str, Any]) -> list[str]:
    steps = list(_steps(figures, ('comad', 'comad_40_50_60', 'comad_batches')))
    compiled = any(step.get('compiled') for _, step in steps)
    rows = []
    for name, step in steps:
        row = [f'{name if "/" in name else "40/60/80"} %', str(step['batch'])]
        if 'skipped' in step:
            rows.append([*row, step['skipped'], *['–'] * (6 if compiled else 4)])
            continue
        plain = 'not compiled' if step['compiled'] else 'step'
        ways = ('step', plain) if compiled else ('step',)
        row += [_rate(step, way) for way in ways]
        row += [_ratio(step, 'reference', way) for way in ways]
        row += [_ratio(step, 'teachers alone', 'step'), utilisation(step, figures), _memory(step)]
        rows.append(row)
    if not rows:
        return []
    more = ['not compiled'] if compiled else []
    head = ["CoMAD's step, kept", 'batch', 'images/s', *more]
    head += ['times faster than the straightforward step', *more]
    lines = table([*head, "teachers' share", 'utilisation', 'GiB'], rows)
    if parts := next((step['parts_ms'] for _, step in steps if 'parts_ms' in step), None):
        shown = ', '.join(f'{name} {value:.1f}' for name, value in parts.items())
        lines += ['', f'Where the time goes, ms: {shown}.']
    return lines


def _runner(figures: Mapping[str, Any]) -> list[str]:
    bare, own = figures.get('comad', {}).get('40/60/80'), None
    rows = []
    for name, found in figures.get('runner', {}).items():
        row = [
            name,
            str(found['workers']),
            f'{1000 * found["seconds_per_step"]:.1f}',
            '–',
            '–',
            '–',
        ]
        own = found.get('bare_seconds_per_step', own)
        steps = own
        if not own and bare and 'seconds_per_step' in bare:
            same = (bare['batch'], bare['compiled']) == (found['batch'], found['compiled'])
            steps = bare['seconds_per_step']['step'] if same else None
        if steps:
            step = Spread.of(steps).median
            row[3] = f'{1000 * step:.1f}'
            row[4] = f'{100 * (found["seconds_per_step"] / step - 1):+.1f} %'
        if found.get('data_wait'):
            row[5] = f'{median(found["data_wait"]):.1f} %'
        rows.append(row)
    head = ['training in the Runner', 'workers', 'ms per step', 'bare step', 'more', 'data wait']
    return table(head, rows) if rows else []


def _methods(figures: Mapping[str, Any]) -> list[str]:
    rows = []
    for name, step in _steps(figures, ('methods',)):
        if 'skipped' in step:
            rows.append([name, str(step['batch']), step['skipped'], *['–'] * 4])
            continue
        plain = 'not compiled' if step['compiled'] else 'step'
        rows.append(
            [
                name,
                str(step['batch']),
                _rate(step) if step['compiled'] else '–',
                _rate(step, plain),
                f'{step["gflop_per_image"]:.1f}',
                utilisation(step, figures),
                _memory(step),
            ]
        )
    head = [
        "method's step",
        'batch',
        'images/s compiled',
        'not compiled',
        'GFLOP/image',
        'utilisation',
        'GiB',
    ]
    return table(head, rows) if rows else []


def _transfers(figures: Mapping[str, Any]) -> list[str]:
    rows = []
    for name, step in _steps(figures, ('classification', 'dense')):
        if 'skipped' in step:
            rows.append([name, str(step['batch']), '–', step['skipped'], '–', '–'])
            continue
        rate = _rate(step, 'features' if 'features' in step['seconds_per_step'] else 'step')
        name += ', compiled' * step.get('compiled', False)
        against = _ratio(step, 'reference', 'step')
        rows.append([name, str(step['batch']), step['precision'], rate, against, _memory(step)])
    head = ['transfer', 'batch', 'precision', 'images/s', 'times faster than stock parts', 'GiB']
    return table(head, rows) if rows else []


def _loader(figures: Mapping[str, Any]) -> list[str]:
    found = figures.get('loader', {})
    if 'ways' not in found:
        return []
    bare = figures.get('comad', {}).get('40/60/80')
    rows = []
    for way in found['ways']:
        rate, cores = way['images_per_second'], '–'
        if bare and 'seconds_per_step' in bare:
            step = Spread.of(bare['seconds_per_step']['step']).median
            cores = f'{bare["batch"] / step / rate:.2g}'
        ratio = f'{way["ratio"]:.2f} ({way["ratio_min"]:.2f}-{way["ratio_max"]:.2f})'
        rows.append([way['way'], f'{rate:.0f}', ratio, cores])
    head = [
        f'one core, JPEG of {found["data"]["mean_kb"]:.0f} KB',
        'images/s',
        'times ImageFolder',
        "cores that feed CoMAD's step",
    ]
    return table(head, rows)


def _clips(figures: Mapping[str, Any]) -> list[str]:
    rows = []
    for way in figures.get('clips', {}).get('ways', ()):
        rates = (way[key] for key in ('images_per_second', 'slowest', 'fastest'))
        rows.append([way['way'], '{:.0f} ({:.0f}-{:.0f})'.format(*rates)])
    return table(['one core, videos of 300 frames', 'clips/s'], rows) if rows else []


def _start_up(figures: Mapping[str, Any]) -> list[str]:
    seconds = figures.get('start_up', {}).get('seconds', {})
    rows = [[f'`{name}`', Spread.of(values).text(1)] for name, values in seconds.items()]
    return table(['from typing to the end', 'seconds'], rows) if rows else []


EVALUATIONS = {
    'knn': 'k-NN, a bank of a tenth of ImageNet',
    'miou': 'mIoU, 512 x 683 pixels of 150 classes',
    'coco': 'COCO, 100 boxes and masks of 480 x 640 an image',
}


def _evaluation(figures: Mapping[str, Any]) -> list[str]:
    rows = [
        [EVALUATIONS[name], _rate(step), _ratio(step, 'reference', 'step')]
        for name, step in _steps(figures, ('evaluation',))
    ]
    head = ['evaluation, networks left out', 'images/s', "times faster than mmseg's, mmdet's own"]
    return table(head, rows) if rows else []


def _growth(figures: Mapping[str, Any]) -> list[str]:
    rows = [
        [
            name,
            figure['of'],
            Spread.of(figure['seconds']).text(),
            f'{figure["megabytes"]:.0f}' if 'megabytes' in figure else '–',
        ]
        for name, figure in figures.get('growth', {}).items()
    ]
    return (
        table(['what grows, on one core per process', 'of', 'seconds', 'MB'], rows) if rows else []
    )


def _overlap(figures: Mapping[str, Any]) -> list[str]:
    found = figures.get('overlap', {})
    if 'seconds' not in found:
        return []
    parts = [
        f'{name} {1000 * Spread.of(seconds).median:.2f} ms'
        for name, seconds in found['seconds'].items()
    ]
    return [f'A batch of {found["copy_mb"]:.0f} MB to the device: ' + ', '.join(parts) + '.']
