"""Two figures of a pretraining: its curves, and what the method makes of a few images.

Matplotlib draws on the Agg canvas, so no display is needed.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from backbones.files import atomic_path
from comad.methods.parts.diagnostics import Explanation

CURVES_FIGURE = 'diagnostics.png'
Curves = Mapping[str, Sequence[Sequence[float]]]
# Panel -> how the names of its curves start or end; whatever fits nowhere shares the last panel.
PANELS = (
    ('losses', ('loss',), ()),
    ('share of the gate at patches the student sees', ('share_',), ()),
    ('agreement with the other teachers (cosine)', ('agreement_',), ()),
    ('entropy of the gate (nats)', ('gate_entropy',), ()),
    ('effective rank', (), ('_rank',)),
    ('attention distance of each head (patches)', ('attention_distance_',), ()),
    ('mutual information of query and key (NMI)', ('attention_nmi_',), ()),
    ('online k-NN on training images, top-1 (%)', ('probe_',), ()),
)
UNSEEN = 0.25  # brightness of patches that a network does not see


def panels(curves: Curves) -> list[tuple[str, list[str]]]:
    """Title and curve names of every panel that has a curve."""
    left, found = list(curves), []
    for title, starts, ends in PANELS:
        names = [name for name in left if name.startswith(starts) or (ends and name.endswith(ends))]
        left = [name for name in left if name not in names]
        if names:
            found.append((title, names))
    return found + ([('other', left)] if left else [])


def draw_curves(curves: Curves, path: str | Path, caption: str = '') -> Path:
    """Draw curves over the training step as one PNG, one panel per kind.

    Args:
        curves: name -> points (step, value).
        path: the PNG to write.
        caption: line above the panels.

    Raises:
        ValueError: there is no curve.
    """
    if not curves:
        raise ValueError('no curves: the run logged nothing')
    shown = panels(curves)
    columns = min(3, len(shown))
    rows = -(-len(shown) // columns)
    figure, axes = new_figure(rows, columns, 4.2, 2.9)
    for axis, (title, names) in zip(axes.flat, shown, strict=False):
        for name in names:
            points = np.asarray(curves[name], dtype=float)
            axis.plot(
                points[:, 0], points[:, 1], marker='.' if len(points) < 30 else '', label=name
            )
        axis.set_title(title, fontsize=10)
        axis.set_xlabel('step', fontsize=9)
        axis.grid(alpha=0.3)
        axis.legend(fontsize=8, frameon=False)
        if title.startswith('share'):
            axis.set_ylim(0, 1)
    for axis in list(axes.flat)[len(shown) :]:
        axis.set_axis_off()
    figure.suptitle(caption, fontsize=11)
    return save_figure(figure, path)


def draw_explanation(
    images: Tensor, explanation: Explanation, path: str | Path, caption: str = ''
) -> Path:
    """Draw masks, gate and features of a few images as rows of one PNG.

    Args:
        images: (B, 3, H, W) uint8.
        explanation: of these images.
        path: the PNG to write.
        caption: line above the rows.
    """
    grid = round(next(iter(explanation.seen.values())).shape[1] ** 0.5)
    pictures = images.permute(0, 2, 3, 1).cpu().numpy() / 255
    columns: list[tuple[str, Any]] = [('image', lambda b: pictures[b])]
    for name, seen in explanation.seen.items():
        columns.append((f'{name} sees', lambda b, seen=seen: _dimmed(pictures[b], seen[b], grid)))
    for name, weights in explanation.weights.items():
        seen = explanation.seen[name]
        columns.append((f'weight of\n{name}', lambda b, w=weights, s=seen: _heat(w[b], s[b], grid)))
    for name, colors in feature_colors(explanation.features).items():
        columns.append((name, lambda b, c=colors: c[b].reshape(grid, grid, 3)))
    figure, axes = new_figure(len(images), len(columns), 1.35, 1.4)
    for b, row in enumerate(axes):
        for axis, (title, draw) in zip(row, columns, strict=True):
            axis.imshow(draw(b), interpolation='nearest', vmin=0, vmax=1)
            axis.set_axis_off()
            if b == 0:
                axis.set_title(title, fontsize=9)
    figure.suptitle(caption, fontsize=10)
    return save_figure(figure, path)


def feature_colors(features: Mapping[str, Tensor]) -> dict[str, np.ndarray]:
    """Features (B, N, d) per name as colours (B, N, 3) in 0-1, by three common components.

    The components are those of all maps and images together, so equal colours mean equal features
    wherever they stand. Positions without a feature, all zero, are white.
    """
    maps = [x.detach().float().cpu() for x in features.values()]
    stacked = torch.cat([x.flatten(0, 1) for x in maps])
    there = stacked.abs().sum(1) > 0
    known = stacked[there] - stacked[there].mean(0)
    _, _, directions = torch.linalg.svd(known, full_matrices=False)
    # The sign of a component is arbitrary; fix it, so that a figure can be drawn again.
    directions = directions[:3]
    signs = directions.gather(1, directions.abs().argmax(1, keepdim=True)).sign()
    scores = known @ (directions * signs).T
    low, high = (scores.quantile(q, dim=0) for q in (0.02, 0.98))
    colors = torch.ones(len(stacked), 3)
    colors[there, : scores.shape[1]] = ((scores - low) / (high - low).clamp(min=1e-6)).clamp(0, 1)
    parts = colors.split([x.shape[0] * x.shape[1] for x in maps])
    return {
        name: part.reshape(*x.shape[:2], 3).numpy()
        for name, part, x in zip(features, parts, maps, strict=True)
    }


def save_figure(figure: Any, path: str | Path, dpi: int = 110) -> Path:
    """Write a figure as PNG, whole or not at all."""
    with atomic_path(path) as partial:
        figure.savefig(partial, dpi=dpi, format='png')
    return Path(path)


def new_figure(rows: int, columns: int, width: float, height: float) -> tuple[Any, np.ndarray]:
    """A figure with (rows, columns) axes, each of ``width`` x ``height`` inches."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width * columns, height * rows + 0.6), layout='constrained')
    FigureCanvasAgg(figure)
    return figure, figure.subplots(rows, columns, squeeze=False)


def _dimmed(picture: np.ndarray, seen: Tensor, grid: int) -> np.ndarray:
    patch = np.ones((picture.shape[0] // grid, picture.shape[1] // grid))
    bright = np.kron(seen.cpu().numpy().reshape(grid, grid).astype(float), patch)
    return picture * np.where(bright > 0, 1.0, UNSEEN)[..., None]


def _heat(weights: Tensor, seen: Tensor, grid: int) -> np.ndarray:
    """Weights 0-1 as colours; white where the teacher does not look."""
    import matplotlib

    colors = matplotlib.colormaps['viridis'](weights.float().cpu().numpy().reshape(grid, grid))
    colors[~seen.cpu().numpy().reshape(grid, grid)] = 1.0
    return colors[..., :3]
