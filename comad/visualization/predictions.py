"""One figure per dense run: image, ground truth and prediction side by side.

Matplotlib draws on the Agg canvas, so no display is needed. Segmentation and detection are told
apart by the fields of MMEngine's data samples; mmseg and mmdet are not imported here.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.dataset import pseudo_collate

from comad.data.decode import read_image
from comad.visualization.pretraining import save_figure

COLUMNS = ('image', 'ground truth', 'prediction')
IGNORED = 255
MIN_SCORE = 0.3
MAX_LEGEND = 16
BACKGROUND = (0.88, 0.88, 0.88)
IGNORED_COLOR = (1.0, 1.0, 1.0)
NAVY = (0.15, 0.25, 0.7)


def draw_predictions(
    model: torch.nn.Module, dataset: Any, path: str | Path, images: int = 4, caption: str = ''
) -> Path:
    """Predict evenly spaced images of a data set and draw them as rows of one PNG.

    Args:
        model: Segmentor or detector with its data preprocessor; its mode is restored afterwards.
        dataset: Test data set with annotations, of mmseg or mmdet.
        path: The PNG to write.
        images: Number of rows.
        caption: Line above the rows.

    Raises:
        ValueError: less than one image was asked for, or the samples hold no dense prediction.
    """
    if images < 1:
        raise ValueError(f'images={images}: at least one row is needed')
    rows = np.unique(np.linspace(0, len(dataset) - 1, images).astype(int))
    samples = predict(model, dataset, rows.tolist())
    names = tuple(dataset.metainfo['classes'])
    return draw_rows(samples, names, path, caption)


def predict(model: torch.nn.Module, dataset: Any, rows: Sequence[int]) -> list[Any]:
    """Data samples with ground truth and prediction, one image at a time, without gradients."""
    was_training = model.training
    model.eval()
    try:
        samples = []
        for row in rows:
            with torch.no_grad():
                for sample in model.test_step(pseudo_collate([dataset[row]])):
                    # A float per class and pixel: hundreds of megabytes, and not drawn.
                    sample.pop('seg_logits', None)
                    samples.append(sample.cpu())
    finally:
        model.train(was_training)
    return samples


def draw_rows(
    samples: Sequence[Any], names: Sequence[str], path: str | Path, caption: str = ''
) -> Path:
    """Draw data samples as rows of image, ground truth and prediction.

    Raises:
        ValueError: a sample holds neither ``pred_sem_seg`` nor ``pred_instances``.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    side = 2.6
    figure = Figure(figsize=(side * len(COLUMNS), side * len(samples) + 1.5), layout='constrained')
    FigureCanvasAgg(figure)
    axes = figure.subplots(len(samples), len(COLUMNS), squeeze=False)
    shown: set[int] = set()
    for row, sample in zip(axes, samples, strict=True):
        image = np.asarray(read_image(sample.img_path))
        row[0].imshow(image)
        if 'pred_sem_seg' in sample:
            shown |= _draw_maps(row[1:], sample)
        elif 'pred_instances' in sample:
            shown |= _draw_instances(row[1:], sample, image, names)
        else:
            raise ValueError(f'{sample.img_path}: no pred_sem_seg and no pred_instances to draw')
        for axis in row:
            axis.set_axis_off()
    for axis, title in zip(axes[0], COLUMNS, strict=True):
        axis.set_title(title, fontsize=12)
    figure.suptitle(caption, fontsize=12)
    _draw_legend(figure, sorted(shown), names, 'pred_sem_seg' in samples[0])
    return save_figure(figure, path, dpi=130)


def class_color(label: int) -> tuple[float, float, float]:
    """A fixed colour per class: ten well separated ones first, then golden-ratio hues."""
    import matplotlib

    if label == 7:  # tab10's grey is hard to see on dark photographs
        return NAVY
    if label < 10:
        return matplotlib.colormaps['tab10'](label)[:3]
    return matplotlib.colormaps['hsv'](label * 0.618 % 1)[:3]


def _draw_maps(axes: Sequence[Any], sample: Any) -> set[int]:
    truth = sample.gt_sem_seg.data.squeeze(0).numpy()
    found = sample.pred_sem_seg.data.squeeze(0).numpy()
    for axis, labels in zip(axes, (truth, found), strict=True):
        axis.imshow(_paint(labels))
    # A rim, say, that is not scored is left white in both, so that the two can be compared.
    return (set(np.unique(truth).tolist()) | set(np.unique(found).tolist())) - {IGNORED}


def _paint(labels: np.ndarray) -> np.ndarray:
    picture = np.ones((*labels.shape, 3))
    for label in np.unique(labels):
        picture[labels == label] = _map_color(int(label))
    return picture


def _map_color(label: int) -> tuple[float, float, float]:
    """Class 0 is the sample's background and grey; in ADE20K it is the wall."""
    if label == IGNORED:
        return IGNORED_COLOR
    return BACKGROUND if label == 0 else class_color(label - 1)


def _draw_instances(
    axes: Sequence[Any], sample: Any, image: np.ndarray, names: Sequence[str]
) -> set[int]:
    shown: set[int] = set()
    found = sample.pred_instances
    found = found[found.scores >= MIN_SCORE]
    for axis, instances in zip(axes, (sample.gt_instances, found), strict=True):
        axis.imshow(image)
        masks = _masks(instances)
        scores = instances.scores.tolist() if 'scores' in instances else [None] * len(instances)
        boxes = getattr(instances.bboxes, 'tensor', instances.bboxes).tolist()
        for index, (box, label, score) in enumerate(
            zip(boxes, instances.labels.tolist(), scores, strict=True)
        ):
            shown.add(label)
            _draw_instance(axis, box, masks[index], class_color(label), names[label], score)
    if len(found) == 0:
        axes[1].text(
            0.5,
            0.04,
            f'nothing above {MIN_SCORE}',
            transform=axes[1].transAxes,
            fontsize=9,
            color='white',
            ha='center',
            bbox=dict(facecolor='black', edgecolor='none', pad=2),
        )
    return shown


def _draw_instance(
    axis: Any, box: list[float], mask: np.ndarray, color: tuple, name: str, score: float | None
) -> None:
    from matplotlib.patches import Rectangle

    left, top, right, bottom = box
    axis.add_patch(
        Rectangle((left, top), right - left, bottom - top, fill=False, color=color, linewidth=1.5)
    )
    overlay = np.zeros((*mask.shape, 4))
    overlay[mask] = (*color, 0.45)
    axis.imshow(overlay)
    axis.text(
        left,
        top,
        name if score is None else f'{name} {score:.2f}',
        color='white',
        fontsize=8,
        # Inside the box where there is no room above it.
        va='top' if top < 0.08 * mask.shape[0] else 'bottom',
        bbox=dict(facecolor=color, edgecolor='none', pad=1),
        clip_on=True,
    )


def _masks(instances: Any) -> np.ndarray:
    """(n, H, W) bool from a tensor of predictions or mmdet's bitmap or polygon annotations."""
    masks = instances.masks
    masks = masks.to_ndarray() if hasattr(masks, 'to_ndarray') else masks.numpy()
    return masks.astype(bool)


def _draw_legend(figure: Any, shown: list[int], names: Sequence[str], maps: bool) -> None:
    from matplotlib.patches import Patch

    handles = [
        Patch(
            facecolor=_map_color(label) if maps else class_color(label),
            edgecolor='0.5',
            label=names[label],
        )
        for label in shown[:MAX_LEGEND]
    ]
    if len(shown) > MAX_LEGEND:
        handles.append(Patch(facecolor='none', label=f'and {len(shown) - MAX_LEGEND} more'))
    if maps:
        handles.append(Patch(facecolor=IGNORED_COLOR, edgecolor='0.5', label='not scored'))
    figure.legend(
        handles=handles,
        loc='outside lower center',
        ncols=min(6, len(handles)),
        fontsize=9,
        frameon=False,
    )
