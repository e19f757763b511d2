"""Batches of noise in the shape of a config's training data."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from mmengine.dataset import default_collate, pseudo_collate
from PIL import Image
from torch import Tensor

from comad.data.clips import build_clip_views
from comad.data.views import build_views
from comad.tasks.protocol import lookup

# Different items of a batch; more images are these again: augmenting hundreds would take minutes.
MADE = 32


def image_size(config: Mapping[str, Any]) -> int:
    """Edge in pixels of the images that a forward pass sees.

    Raises:
        ValueError: The train pipeline neither crops nor resizes to one square.
    """
    views = lookup(config, 'test_dataloader.dataset.views') or lookup(
        config, 'train_dataloader.dataset.views'
    )
    if views:
        return views['size']
    pipeline = lookup(config, 'train_dataloader.dataset.pipeline')
    for kind, key in (('RandomCrop', 'crop_size'), ('Resize', 'scale')):
        for entry in pipeline:
            if entry['type'] == kind and len(set(entry[key])) == 1:
                return entry[key][0]
    raise ValueError('the train pipeline has no square RandomCrop or Resize, whose size counts')


def make_batch(
    config: Mapping[str, Any], count: int, device: torch.device | None = None
) -> dict[str, Any]:
    """A batch of ``count`` images as a DataLoader would yield it, pinned for a GPU.

    Args:
        config: resolved, as plain Python.
        count: images.
        device: that the batch will be copied to.
    """
    generator = np.random.default_rng(0)
    views = lookup(config, 'train_dataloader.dataset.views')
    if sampling := lookup(config, 'train_dataloader.dataset.sampling'):
        view, shape = build_clip_views(views), (sampling['frames'], 256, 256, 3)
        items = [
            dict(inputs=view([generator.integers(0, 256, shape, dtype=np.uint8)]), labels=i % 2)
            for i in range(min(count, MADE))
        ]
        data = default_collate(_again(items, count))
        return _pinned(data) if device and device.type == 'cuda' else data
    if views:
        view = build_views(views)
        items = [
            dict(inputs=view(_image(generator)), labels=i % 10) for i in range(min(count, MADE))
        ]
        items = _again(items, count)
        if lookup(config, 'train_dataloader.dataset.with_index'):
            items = [{**item, 'index': i} for i, item in enumerate(items)]
        data = default_collate(items)
        return _pinned(data) if device and device.type == 'cuda' else data
    size = image_size(config)
    if 'roi_head' in config['model']:
        make, classes = _detection_item, lookup(config, 'model.roi_head.bbox_head.num_classes')
    else:
        make, classes = _segmentation_item, lookup(config, 'model.decode_head.num_classes')
    items = [make(generator, size, classes) for _ in range(min(count, MADE))]
    return pseudo_collate(_again(items, count))


def _again(items: list[dict[str, Any]], count: int) -> list[dict[str, Any]]:
    return [items[i % len(items)] for i in range(count)]


def _image(generator: np.random.Generator) -> Image.Image:
    return Image.fromarray(generator.integers(0, 256, (256, 256, 3), dtype=np.uint8))


def _pixels(generator: np.random.Generator, size: int) -> Tensor:
    return torch.from_numpy(generator.integers(0, 256, (3, size, size), dtype=np.uint8))


def _segmentation_item(generator: np.random.Generator, size: int, classes: int) -> dict[str, Any]:
    from mmengine.structures import PixelData
    from mmseg.structures import SegDataSample

    sample = SegDataSample(metainfo=_shapes(size))
    labels = generator.integers(0, classes, (1, size, size))
    sample.gt_sem_seg = PixelData(data=torch.from_numpy(labels))
    return dict(inputs=_pixels(generator, size), data_samples=sample)


def _detection_item(generator: np.random.Generator, size: int, classes: int) -> dict[str, Any]:
    """Seven objects, about as many as an image of COCO has."""
    from mmdet.structures import DetDataSample
    from mmdet.structures.bbox import HorizontalBoxes
    from mmdet.structures.mask import BitmapMasks
    from mmengine.structures import InstanceData

    corners = generator.integers(0, size // 2, (7, 2))
    sides = generator.integers(size // 16, size // 2, (7, 2))
    boxes = np.concatenate([corners, corners + sides], axis=1)
    masks = np.zeros((7, size, size), dtype=np.uint8)
    for mask, (left, top, right, bottom) in zip(masks, boxes, strict=True):
        mask[top:bottom, left:right] = 1
    sample = DetDataSample(metainfo={**_shapes(size), 'img_id': 0, 'scale_factor': (1.0, 1.0)})
    sample.gt_instances = InstanceData(
        bboxes=HorizontalBoxes(torch.from_numpy(boxes).float()),
        labels=torch.from_numpy(generator.integers(0, classes, 7)),
        masks=BitmapMasks(masks, size, size),
    )
    sample.ignored_instances = InstanceData(
        bboxes=HorizontalBoxes(torch.zeros(0, 4)),
        labels=torch.zeros(0, dtype=torch.int64),
        masks=BitmapMasks(np.zeros((0, size, size), dtype=np.uint8), size, size),
    )
    return dict(inputs=_pixels(generator, size), data_samples=sample)


def _shapes(size: int) -> dict[str, Any]:
    shape = (size, size)
    return dict(img_shape=shape, ori_shape=shape, pad_shape=shape)


def _pinned(node: Any) -> Any:
    if isinstance(node, Tensor):
        return node.pin_memory()
    if isinstance(node, Mapping):
        return {key: _pinned(value) for key, value in node.items()}
    return [_pinned(value) for value in node] if isinstance(node, list) else node
