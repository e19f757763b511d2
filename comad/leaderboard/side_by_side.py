"""Two runs side by side: what differs between them as text for a terminal, and their curves."""

import math
import os
from collections.abc import Iterable, Mapping
from difflib import unified_diff
from os.path import commonprefix
from pathlib import Path
from typing import Any

from backbones.files import atomic_path
from comad.leaderboard.compare import (
    CurveDifference,
    Difference,
    MetricDifference,
    RunsDifference,
)
from comad.leaderboard.tables import Statistics
from comad.runs.logs import Curve

MAX_VALUE = 100
MAX_SOURCE_LINES = 40
VERDICTS = {True: 'beyond noise', False: 'within noise', None: 'no verdict'}


def format_runs(found: RunsDifference) -> str:
    """Return the comparison of two runs, what forbids comparing figures first."""
    lines = [f'A: {_side(found, 0)}', f'B: {_side(found, 1)}']
    lines += [f'note: {note}' for note in found.notes]
    if found.protocol:
        lines += ['', 'THE PROTOCOLS DIFFER: the figures below are not comparable.']
        lines += _differences(found.protocol)
    lines += ['', f'config ({found.config_source})', *(_differences(found.config) or ['  equal'])]
    if found.expected:
        lines += ['  differs as expected', *_differences(found.expected, '    ')]
    for title, entries in (('student', found.student), ('environment', found.environment)):
        if found.records[0] and found.records[1]:
            lines += ['', title, *(_differences(entries) or ['  equal'])]
    lines += ['', 'metrics', *_metrics(found.metrics)]
    note = f' ({found.curves_note})' if found.curves_note else ''
    lines += ['', f'curves{note}']
    lines += [f'  {_curve(curve)}' for curve in found.curves or ()]
    lines += ['', 'equal' if found.equal else 'different']
    return '\n'.join(lines)


def _side(found: RunsDifference, side: int) -> str:
    records = found.records[side]
    if len(records) > 1:
        return f'{found.names[side]}, {len(records)} runs: {", ".join(records)}'
    return found.names[side]


def _differences(entries: Iterable[Difference], indent: str = '  ') -> list[str]:
    lines = []
    for entry in entries:
        if entry.key == 'config.source':
            texts = [(text or '').splitlines() for text in (entry.a, entry.b)]
            changed = list(unified_diff(*texts, 'A', 'B', lineterm='', n=0))
            lines.append(f'{indent}config.source:')
            lines += [f'{indent}  {_clip(line)}' for line in changed[2 : 2 + MAX_SOURCE_LINES]]
        else:
            lines.append(f'{indent}{entry.key}: {_pair(entry.a, entry.b)}')
    return lines


def _metrics(entries: Iterable[MetricDifference]) -> list[str]:
    lines = []
    for entry in entries:
        text = f'  {entry.metric}: {_figure(entry.a)} -> {_figure(entry.b)}'
        if entry.difference is not None:
            bound = '' if entry.noise is None else f', bound {entry.noise:.2f}'
            text += f', {entry.difference:+.2f}: {VERDICTS[entry.beyond_noise]}{bound}'
        lines.append(f'{text} ({entry.basis})')
    return lines or ['  none']


def _curve(entry: CurveDifference) -> str:
    if entry.first_difference is None:
        return f'{entry.name}: bit-equal in all {entry.steps[0]} entries'
    if None in entry.final:
        side = 'AB'[entry.final[0] is None]
        return f'{entry.name}: only {side} has it'
    since = 'from the first entry' if entry.equal_until is None else f'after {entry.equal_until}'
    a, b = entry.final
    text = f'{entry.name}: differs {since} (step {entry.first_difference}); last {a:.6g} -> {b:.6g}'
    if entry.largest_gap is None:
        return f'{text}; no step in common'
    return f'{text}; largest gap {entry.largest_gap:.4g} at step {entry.largest_gap_at}'


def _figure(figure: Statistics | None) -> str:
    if figure is None:
        return 'missing'
    sd = '' if figure.sd is None else f' +- {figure.sd:.2f}'
    return f'{figure.mean:.2f}{sd}' + (f' (n = {figure.n})' if figure.n > 1 else '')


def _pair(a: Any, b: Any) -> str:
    """Both values; long ones from shortly before the place where they part."""
    texts = [_value(value) for value in (a, b)]
    if max(map(len, texts)) > MAX_VALUE:
        start = len(commonprefix(texts)) - MAX_VALUE // 4
        texts = [f'...{text[start:]}' if start > 0 else text for text in texts]
    return ' -> '.join(map(_clip, texts))


def _value(value: Any) -> str:
    if value is None or value == '':
        return '(none)'
    return ' '.join(value.split()) if isinstance(value, str) else repr(value)


def _clip(text: str) -> str:
    text = ' '.join(text.split())
    return text if len(text) <= MAX_VALUE else text[: MAX_VALUE - 3] + '...'


def draw_curves(
    first: Mapping[str, Curve],
    second: Mapping[str, Curve],
    labels: tuple[str, str],
    path: str | os.PathLike[str],
) -> Path:
    """Draw one panel per figure into an SVG, PNG or PDF; equal curves give equal SVGs.

    Raises:
        ValueError: If there is no curve, or the file's ending is another.
    """
    from matplotlib import rc_context
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    path = Path(path)
    kind = path.suffix.lower().lstrip('.')
    if kind not in ('svg', 'png', 'pdf'):
        raise ValueError(f'{path}: figures are drawn as .svg, .png or .pdf')
    names = sorted({*first, *second})
    if not names:
        raise ValueError(f'{path}: neither run left scalars, there is nothing to draw')
    columns = min(3, len(names))
    rows = math.ceil(len(names) / columns)
    figure = Figure(figsize=(4.2 * columns, 2.8 * rows + 0.5), layout='constrained')
    FigureCanvasAgg(figure)
    panels = figure.subplots(rows, columns, squeeze=False).ravel()
    for panel in panels[len(names) :]:
        panel.set_visible(False)
    for panel, name in zip(panels, names, strict=False):
        for curves, label, line in zip((first, second), labels, ('-', '--'), strict=True):
            curve = curves.get(name, {})
            panel.plot(list(curve), list(curve.values()), line, marker='.', ms=3, label=label)
        panel.set_title(name, fontsize=9)
        panel.set_xlabel('step as logged', fontsize=8)
        panel.grid(alpha=0.3)
    handles, texts = panels[0].get_legend_handles_labels()
    figure.legend(handles, texts, loc='outside upper center', fontsize=8)
    with atomic_path(path) as partial, rc_context({'svg.hashsalt': 'curves'}):
        metadata = {'png': None, 'svg': {'Date': None}, 'pdf': {'CreationDate': None}}[kind]
        figure.savefig(partial, dpi=110, format=kind, metadata=metadata)
    return path
