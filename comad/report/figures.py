"""Small figures as inline SVG whose colours follow the page's light or dark scheme.

Matplotlib draws with placeholder colours, which become CSS variables, so one figure serves both.
"""

import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from io import StringIO
from typing import Any, NamedTuple

import numpy as np

from comad.runs.logs import Curve

POINTS = 60
INK, MUTED, RULE = '#010101', '#010102', '#010103'
SERIES = tuple(f'#0102{number:02d}' for number in range(8))
_VARIABLES = {INK: 'var(--ink)', MUTED: 'var(--muted)', RULE: 'var(--rule)'} | {
    color: f'var(--c{number})' for number, color in enumerate(SERIES)
}
_DASHES = ('-', '--', ':', '-.')
_MARKERS = ('o', 's', '^', 'D')
WIDTH, HEIGHT = 4.6, 3.0  # inches of a panel


class Point(NamedTuple):
    """One row in a plot of accuracy over cost; no cost means no pretraining."""

    label: str
    series: int
    cost: float | None
    value: float
    sd: float | None


class Band(NamedTuple):
    """A curve over seeds: (P,) steps, the mean and its sd, zero for a single seed; their number."""

    steps: np.ndarray
    mean: np.ndarray
    sd: np.ndarray
    seeds: int


def thin(points: Curve, most: int = POINTS) -> tuple[np.ndarray, np.ndarray]:
    """Return at most ``most`` points (steps, values), each the mean of its neighbours."""
    steps = np.array(sorted(points))
    values = np.array([points[step] for step in steps])
    if len(steps) <= most:
        return steps, values
    bins = np.array_split(np.arange(len(steps)), most)
    return tuple(np.array([own[b].mean() for b in bins]) for own in (steps, values))


def over_seeds(curves: Sequence[Curve], most: int = POINTS) -> Band | None:
    """Average one curve of several seeds, at the first one's steps, where all of them have run.

    None where there is no curve, or the seeds have no step in common.
    """
    thinned = [thin(points, most) for points in curves if points]
    if not thinned:
        return None
    first = max(steps[0] for steps, _ in thinned)
    last = min(steps[-1] for steps, _ in thinned)
    grid = thinned[0][0]
    grid = grid[(grid >= first) & (grid <= last)]
    if not len(grid):
        return None
    values = np.stack([np.interp(grid, steps, found) for steps, found in thinned])
    sd = values.std(axis=0, ddof=1) if len(values) > 1 else np.zeros(len(grid))
    return Band(grid, values.mean(axis=0), sd, len(values))


def draw_bands(
    name: str,
    bands: Mapping[str, tuple[int, Band]],
    x: str,
    y: str,
    limits: tuple[float, float] | None = None,
) -> str:
    """Draw label -> (number of its colour, curve) as one panel; shaded: one sd around the mean.

    Args:
        name: Unlike that of any other figure of the page: it makes the identifiers.
        bands: The curves.
        x: Label below.
        y: Label at the left.
        limits: Of the values shown; those of the curves by default.
    """
    with _panel(name, x, y) as (axis, done):
        if limits:
            axis.set_ylim(*limits)
        for label, (series, band) in bands.items():
            style = dict(color=SERIES[series % len(SERIES)], lw=1.5)
            dash = _DASHES[series // len(SERIES) % len(_DASHES)]
            marker = 'o' if len(band.steps) < 6 else ''
            axis.plot(band.steps, band.mean, dash, marker=marker, ms=4, label=label, **style)
            if band.seeds > 1:
                low, high = band.mean - band.sd, band.mean + band.sd
                axis.fill_between(
                    band.steps, low, high, color=style['color'], alpha=0.18, linewidth=0
                )
        axis.legend(fontsize=8, frameon=False, labelcolor=INK, ncols=1 + (len(bands) > 5))
    return done[0]


def draw_cost(name: str, points: Sequence[Point], x: str, y: str) -> str:
    """Draw values over cost; error bars: one sd. A row without pretraining is a dashed line."""
    with _panel(name, x, y) as (axis, done):
        costs = [point.cost for point in points if point.cost is not None]
        if costs and max(costs) > 10 * min(costs):
            axis.set_xscale('log')
        for point in sorted(points, key=lambda point: -point.value):
            color = SERIES[point.series % len(SERIES)]
            marker = _MARKERS[point.series // len(SERIES) % len(_MARKERS)]
            if point.cost is None:
                axis.axhline(point.value, color=color, ls='--', lw=1.2, label=point.label)
            else:
                axis.errorbar(
                    point.cost,
                    point.value,
                    yerr=point.sd,
                    fmt=marker,
                    ms=6,
                    capsize=3,
                    color=color,
                    label=point.label,
                )
        axis.margins(x=0.12, y=0.12)
        # Beside the points, best first: labels at crowded points would cover each other.
        axis.set_position((0.14, 0.16, 0.5, 0.81))
        axis.legend(
            fontsize=7,
            frameon=False,
            labelcolor=INK,
            loc='upper left',
            bbox_to_anchor=(1.02, 1.0),
            borderaxespad=0,
            handletextpad=0.5,
        )
    return done[0]


@contextmanager
def _panel(name: str, x: str, y: str) -> Iterator[tuple[Any, list[str]]]:
    import matplotlib
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    settings = {
        'svg.fonttype': 'none',
        'svg.hashsalt': name,
        'font.family': ['DejaVu Sans'],
        # A name with a dollar in it is a name, not a formula.
        'text.parse_math': False,
        'axes.formatter.use_mathtext': False,
        'path.simplify_threshold': 0.5,
    }
    done: list[str] = []
    with matplotlib.rc_context(settings), warnings.catch_warnings():
        # A letter that the font lacks is the browser's to draw.
        warnings.filterwarnings('ignore', message='Glyph .* missing from font')
        # A busy machine is no reason to complain.
        warnings.filterwarnings('ignore', message='Creating legend with loc="best" can be slow')
        figure = Figure(figsize=(WIDTH, HEIGHT))
        FigureCanvasSVG(figure)
        figure.patch.set_visible(False)
        # A fixed frame: a layout that is computed takes most of the time of a figure.
        axis = figure.add_axes((0.14, 0.16, 0.84, 0.81))
        axis.patch.set_visible(False)
        axis.tick_params(colors=MUTED, labelsize=8, width=0.6, length=3)
        axis.spines[['top', 'right']].set_visible(False)
        axis.spines[['left', 'bottom']].set_color(RULE)
        axis.grid(axis='y', color=RULE, lw=0.5, alpha=0.6)
        axis.set_axisbelow(True)
        axis.xaxis.set_major_locator(MaxNLocator(nbins=6, integer=True))
        axis.set_xlabel(x, fontsize=9, color=MUTED)
        axis.set_ylabel(y, fontsize=9, color=MUTED)
        yield axis, done
        stream = StringIO()
        nothing = dict.fromkeys(('Creator', 'Date', 'Format', 'Type'))
        figure.savefig(stream, format='svg', metadata=nothing)
    done.append(inline(stream.getvalue()))


def inline(svg: str) -> str:
    """Return an SVG file as an element for HTML: no preamble, no ids of groups, page's colours."""
    svg = svg[svg.index('<svg') :]
    svg = re.sub(r'<svg[^>]*?viewBox="([^"]*)"[^>]*>', r'<svg viewBox="\1">', svg, count=1)
    svg = re.sub(r'<!--.*?-->|<defs>\s*<style[^>]*>.*?</style>\s*</defs>', '', svg, flags=re.S)
    # Tags alone: what a figure says is left as it is.
    svg = re.sub(r'<[^>]*>', lambda tag: _shorter(tag[0]), svg)
    return re.sub(r'>\s+<', '><', svg).strip()


def _shorter(tag: str) -> str:
    tag = re.sub(r'<(g|text) id="[^"]*"', r'<\1', tag)
    tag = re.sub(r' transform="rotate\(-0 [^"]*"', '', tag)
    tag = re.sub(r" font-family: '[^']*';", '', tag)
    tag = re.sub(r'font: ([\d.]+px) [^;"]*', r'font-size: \1', tag)
    numbers = re.compile(r'(-?\b\d+\.\d)\d+')
    tag = re.sub(
        r' (d|x|y|transform)="[^"]*"', lambda entry: numbers.sub(r'\1', entry[0]), tag, flags=re.S
    )
    tag = ' '.join(tag.split())
    for color, variable in _VARIABLES.items():
        tag = tag.replace(color, variable)
    return tag
