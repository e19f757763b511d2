"""A config's training step on made-up data: speed depends neither on weights nor on images."""

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from mmengine.config import Config, ConfigDict
from mmengine.dataset import default_collate, pseudo_collate
from mmengine.optim import OptimWrapper, build_optim_wrapper
from mmengine.registry import MODELS, init_default_scope
from PIL import Image
from torch import Tensor, nn

from backbones import untrained_teachers
from comad.cards.cost import image_size
from comad.datasets.transforms import build_views
from comad.leaderboard.protocol import lookup


@dataclass
class Workload:
    """A model, its optimizer and one batch.

    Attributes:
        model: on the device, in training mode.
        wrapper: optimizer wrapper, which also decides the precision.
        batch: as a DataLoader would yield it.
        images: in the batch.
    """

    model: nn.Module
    wrapper: OptimWrapper
    batch: dict[str, Any]
    images: int

    def step(self) -> dict[str, Tensor]:
        """One optimizer step, as MMEngine's loops call it."""
        return self.model.train_step(self.batch, self.wrapper)


def build(cfg: Config, device: torch.device, precision: str, batch: int) -> Workload:
    """The step of a resolved config with random weights.

    Args:
        cfg: of a leaf, see ``load_run_config``.
        device: where to run.
        precision: 'float32' or 'bfloat16'.
        batch: images.
    """
    init_default_scope(cfg.get('default_scope') or 'mmengine')
    torch.manual_seed(0)
    with untrained_teachers():
        model = build_model(cfg.model)
    data = make_batch(cfg, batch, device)
    model = model.to(device).train()
    if hasattr(model, 'fit_alignment'):
        with torch.no_grad():
            model.fit_alignment(iter([model.data_preprocessor(data, True)['inputs'][:8]]))
    return Workload(model, wrap(cfg, model, precision), data, batch)


def build_model(config: Mapping[str, Any]) -> nn.Module:
    """The model of a config, with random weights instead of a student's file."""
    config = ConfigDict(copy.deepcopy(dict(config)))
    if 'init_cfg' in config.backbone:
        config.backbone.init_cfg = None
    return _without_processes(MODELS.build(config))


def wrap(cfg: Config, model: nn.Module, precision: str) -> OptimWrapper:
    """The config's optimizer for a model, in the precision that is asked for."""
    config = copy.deepcopy(cfg.optim_wrapper)
    config.type, config.dtype = 'AutocastOptimWrapper', precision
    config.pop('accumulative_counts', None)
    return build_optim_wrapper(model, config)


def make_batch(cfg: Config, count: int, device: torch.device) -> dict[str, Any]:
    """A batch of noise in the shape of the config's training data, pinned where that helps."""
    generator = np.random.default_rng(0)
    views = lookup(cfg._cfg_dict, 'train_dataloader.dataset.views')
    if views:
        view = build_views(views)
        items = [dict(inputs=view(_image(generator)), labels=i % 10) for i in range(count)]
        data = default_collate(items)
        return _pinned(data) if device.type == 'cuda' else data
    size = image_size(cfg._cfg_dict.to_dict())
    if 'roi_head' in cfg.model:
        make, classes = _detection_item, cfg.model.roi_head.bbox_head.num_classes
    else:
        make, classes = _segmentation_item, cfg.model.decode_head.num_classes
    return pseudo_collate([make(generator, size, classes) for _ in range(count)])


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


def _without_processes(model: nn.Module) -> nn.Module:
    """SyncBN as BN: one process has nothing to synchronise, and a CPU has no SyncBN."""
    from mmengine.model import revert_sync_batchnorm

    return revert_sync_batchnorm(model)
