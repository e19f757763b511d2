"""Losses and validation metrics over the steps of a run, and where two runs part."""

import math
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from backbones.files import atomic_path
from comad.runs.logs import Curve, is_number, read_curves

# What an entry says beside figures: time and memory differ between any two runs.
NO_FIGURES = frozenset(
    ('step', 'iter', 'epoch', 'lr', 'base_lr', 'time', 'data_time', 'memory', 'eta', 'mfu')
    + ('images_per_second', 'data_wait')
)


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

    def as_dict(self) -> dict[str, Any]:
        """The same as plain Python."""
        return asdict(self)


def run_curves(folder: str | os.PathLike[str]) -> dict[str, Curve]:
    """Return the losses and validation metrics of a run's folder by name; none without a log."""
    return read_curves(Path(folder), _figures)


def compare_curves(
    first: Mapping[str, Curve], second: Mapping[str, Curve]
) -> list[CurveDifference]:
    """Compare the curves of two runs by name; a name that one lacks is compared with nothing."""
    names = sorted({*first, *second})
    return [_compare(name, first.get(name, {}), second.get(name, {})) for name in names]


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


def _figures(entry: Mapping[str, Any]) -> dict[str, float]:
    """Of a training's entry the losses, of a validation's all metrics."""
    training = 'iter' in entry
    return {
        name: float(value)
        for name, value in entry.items()
        if is_number(value) and name not in NO_FIGURES and ('loss' in name or not training)
    }


def _compare(name: str, first: Curve, second: Curve) -> CurveDifference:
    equal_until = parting = None
    for step in sorted({*first, *second}):
        if step not in first or step not in second or not _same(first[step], second[step]):
            parting = step
            break
        equal_until = step
    gaps = {step: abs(first[step] - second[step]) for step in first if step in second}
    gaps = {step: gap for step, gap in gaps.items() if math.isfinite(gap)}
    widest = max(gaps, key=lambda step: gaps[step], default=None)
    return CurveDifference(
        name,
        (len(first), len(second)),
        equal_until,
        parting,
        (_last(first), _last(second)),
        None if widest is None else gaps[widest],
        widest,
    )


def _same(first: float, second: float) -> bool:
    return first == second or (math.isnan(first) and math.isnan(second))


def _last(curve: Curve) -> float | None:
    return curve[max(curve)] if curve else None
