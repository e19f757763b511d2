"""The ablations as a figure: mean, sd and n per cell, every seed as a dot."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from backbones.files import atomic_path
from comad.leaderboard.study import AblationRow

ACCENT, PLAIN = 'tab:red', 'tab:blue'
FOOTNOTE = (
    'Bars: mean and sd over n seeds; dots: seeds; dashed: mean of the default; red: paired '
    'difference beyond its 95 % t interval.\nEmbedded sample of 64-px images, minutes of '
    'training: no statement about ImageNet.'
)


def draw_ablations(rows: Sequence[AblationRow], path: str | Path) -> Path:
    """Draw one panel per metric into a PNG; matplotlib draws on the Agg canvas.

    Raises:
        ValueError: there are no rows.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    metrics = list(dict.fromkeys(row.metric for row in rows))
    if not metrics:
        raise ValueError('no rows: no ablation has been run')
    cells = [row for row in rows if row.metric == metrics[0]]
    size = (3.0 + 3.8 * len(metrics), 1.6 + 0.36 * len(cells))
    figure = Figure(figsize=size, layout='constrained')
    FigureCanvasAgg(figure)
    axes = figure.subplots(1, len(metrics), squeeze=False, sharey=True)[0]
    for axis, metric in zip(axes, metrics, strict=True):
        _draw_panel(axis, [row for row in rows if row.metric == metric])
        axis.set_title(f'linear probe, {metric} (%)', fontsize=10)
    axes[0].set_yticks(range(len(cells)), [row.difference for row in cells], fontsize=9)
    axes[0].invert_yaxis()
    figure.supxlabel(FOOTNOTE, fontsize=8)
    path = Path(path)
    with atomic_path(path) as partial:
        figure.savefig(partial, dpi=110, format='png')
    return path


def _draw_panel(axis: Any, rows: Sequence[AblationRow]) -> None:
    default = rows[0].statistics
    if default is not None:
        axis.axvline(default.mean, color='0.5', linestyle='--', linewidth=1)
    for place, row in enumerate(rows):
        own = row.statistics
        text = f'n = {own.n}' if own else 'missing'
        if own is not None:
            color = ACCENT if row.beyond_noise else PLAIN
            values = list(row.values.values())
            axis.plot(values, [place] * len(values), '.', color=color, alpha=0.45)
            axis.errorbar(own.mean, place, xerr=own.sd or 0, fmt='D', color=color, capsize=3)
        place_of_text = dict(xycoords=('axes fraction', 'data'), ha='right', va='center')
        axis.annotate(text, (0.99, place), fontsize=8, color='0.35', **place_of_text)
    axis.margins(x=0.15)
    axis.grid(axis='x', alpha=0.3)
