"""``--data``: a run's config, in place, for data of one's own instead of those it names."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from backbones.files import one_line
from comad.data.identity import own_slug
from comad.data.own import HOLDOUT, cite_own, open_own, own_name, read_own
from comad.engine.options import ConfigError

if TYPE_CHECKING:
    from mmengine.config import Config

    from comad.data.own_dense import OwnScenes

LOADERS = ('train_dataloader', 'val_dataloader', 'test_dataloader')
PRETRAIN, IMAGES = 'pretrain', 'ImageNetFolder'
AS_PUBLIC = 'read as such'


def use(cfg: Config, folder: str, source: str) -> tuple[str, str]:
    """Let a config read ``source``: loaders, number of classes, and what has to fit their number.

    Args:
        cfg: resolved, before ``--cfg-options``.
        folder: of the leaf: pretrain, cls, seg or det.
        source: what the user has named.

    Returns:
        The data's name as part of names of runs, and a line on what they are; no name where they
        are the public set that the config reads, at another place.

    Raises:
        ConfigError: the config reads no such data, or the data cannot be used; in one line.
    """
    try:
        if folder in (PRETRAIN, 'cls'):
            datasets = list(_image_datasets(cfg))
            if not datasets:
                raise ValueError('this config reads no images: --data is for those that do')
            if _is_imagenet(source):
                for dataset in datasets:
                    dataset.root = source
                return '', f'{source}: the classes of ImageNet-1k, {AS_PUBLIC}'
            note = (_pretrain_on if folder == PRETRAIN else _classify)(cfg, datasets, source)
        elif folder in ('seg', 'det'):
            note = (use_masks if folder == 'seg' else use_objects)(cfg, source)
            if note.endswith(AS_PUBLIC):
                return '', note
        else:
            raise ValueError('--data is for pretrain_configs/, cls_, seg_ and det_configs/')
    except (OSError, ValueError) as error:
        text = one_line(error)
        raise ConfigError(f'--data {text}' if text.startswith(source) else text) from None
    return own_slug(own_name(source)), note


def _is_imagenet(source: str) -> bool:
    """Whether a folder has ImageNet's layout and classes: then it is the public set elsewhere."""
    train = Path(source) / 'train'
    if not train.is_dir() or sum(1 for _ in os.scandir(train)) < 1000:
        return False
    from comad.data.check.imagenet import imagenet_wnids
    from comad.data.storage import class_names

    return sorted(class_names(Path(source), 'train')) == sorted(imagenet_wnids())


def _image_datasets(cfg: Config) -> Iterator[Any]:
    loaders = [cfg.get(name) for name in LOADERS]
    loaders.append((cfg.get('test_cfg') or {}).get('bank_dataloader'))
    for loader in loaders:
        if loader and str(loader.dataset.get('type')).endswith(IMAGES):
            yield loader.dataset


def _pretrain_on(cfg: Config, datasets: list[Any], source: str) -> str:
    own = read_own(source, labels=False)
    options = {'labels': False}
    for dataset in datasets:
        dataset.update(root=source, own=options)
        dataset.pop('classes', None)  # a track's
    images = len(open_own(source, 'train', **options))
    text = f'{own_name(source)}: {images:,} images, labels are not read'
    text += _fit_batch(cfg, images)
    hooks = cfg.get('default_hooks') or {}
    if hooks.pop('online_probe', None):
        text += '; no online probe, which needs labels'
    return f'{text}; digest {own.digest[:12]}'


def _classify(cfg: Config, datasets: list[Any], source: str) -> str:
    own = read_own(source, labels=True)
    options = {'labels': True, **({} if 'val' in own.splits else HOLDOUT)}
    for dataset in datasets:
        dataset.update(root=source, own=options)
        dataset.pop('classes', None)  # a track's
    train, val = (open_own(source, split, **options) for split in ('train', 'val'))
    text = f'{own_name(source)}: {len(own.classes)} classes, {len(train):,} images to train'
    text += f' and {len(val):,} to validate{drawn("val" not in own.splits)}'
    set_classes(cfg.model, len(own.classes))
    for evaluator in (cfg.get('val_evaluator'), cfg.get('test_evaluator')):
        if evaluator and 'topk' in evaluator:
            evaluator.topk = tuple(k for k in evaluator.topk if k <= len(own.classes))
    if neighbours := (cfg.get('test_cfg') or {}).get('neighbours'):
        cfg.test_cfg.neighbours = tuple(k for k in neighbours if k <= len(train)) or (len(train),)
        cfg.test_cfg.report_k = min(cfg.test_cfg.report_k, max(cfg.test_cfg.neighbours))
    if cfg.get('train_dataloader'):
        text += _fit_batch(cfg, len(train))
    return f'{text}; digest {own.digest[:12]}'


def use_objects(cfg: Config, source: str) -> str:
    """Let a detector read a COCO file of any categories."""
    from comad.data.own_dense import find_objects

    own = find_objects(source)
    if _is_coco(own):
        return _move(cfg, source, '80 categories of COCO')
    datasets = _dense_datasets(cfg, own, source)
    for split, dataset in datasets:
        annotations, images = own.splits.get(split, own.splits['train'])
        dataset.update(
            type='ObjectFile',
            data_root=str(own.root),
            ann_file=annotations,
            data_prefix=dict(img=images),
        )
        evaluator = cfg.get('val_evaluator') if split == 'val' else None
        if evaluator:
            evaluator.update(ann_file=str(own.root / annotations))
            if dataset.get('own', {}).get('holdout'):
                evaluator.own = dataset.own
            cfg.test_evaluator = evaluator
    return _scenes(cfg, own, source, 'categories')


def use_masks(cfg: Config, source: str) -> str:
    """Let a segmenter read label maps of any classes."""
    from comad.data.own_dense import find_masks

    if (Path(source) / 'images/training').is_dir() and not (Path(source) / 'classes.txt').exists():
        return _move(cfg, source, '150 classes of ADE20K')
    own = find_masks(source)
    for split, dataset in _dense_datasets(cfg, own, source):
        masks, images = own.splits.get(split, own.splits['train'])
        for key in ('img_suffix', 'seg_map_suffix'):
            dataset.pop(key, None)
        dataset.update(
            type='MaskFolder',
            data_root=str(own.root),
            data_prefix=dict(img_path=images, seg_map_path=masks),
            reduce_zero_label=False,
        )
    pipelines = [cfg[name].dataset.pipeline for name in LOADERS]
    _keep_zero([*pipelines, cfg.get('tta_pipeline') or []])
    return _scenes(cfg, own, source, 'classes')


def _dense_datasets(cfg: Config, own: OwnScenes, source: str) -> list[tuple[str, Any]]:
    """Split and data set of every loader, with the classes and how the split is drawn."""
    found = []
    for name, split in zip(LOADERS, ('train', 'val', 'val'), strict=True):
        dataset = cfg[name].dataset
        drawing = {} if 'val' in own.splits else HOLDOUT
        dataset.update(
            own=dict(root=source, split=split, **drawing), metainfo=dict(classes=own.classes)
        )
        dataset.pop('indices', None)
        found.append((split, dataset))
    return found


def _scenes(cfg: Config, own: OwnScenes, source: str, what: str) -> str:
    if 'val' not in own.splits and own.images['train'] < 2:
        raise ValueError(
            f'{source}: a single image, so none can be held out for validation: two or more are '
            'needed, or a split of your own (train and val)'
        )
    set_classes(cfg.model, len(own.classes))
    text = f'{own_name(source)}: {len(own.classes)} {what} ({", ".join(own.classes[:8])}'
    text += ', ...)' if len(own.classes) > 8 else ')'
    text += ', ' + ', '.join(f'{count:,} images of {split}' for split, count in own.images.items())
    text += drawn('val' not in own.splits)
    if own.unused:
        text += f'; without annotations and left out: {", ".join(sorted(own.unused)[:8])}'
    return f'{text}; digest {cite_own(source)[0][:12]}'


def _move(cfg: Config, source: str, what: str) -> str:
    """Let the loaders read the public set at another place."""
    before = str(cfg.train_dataloader.dataset.data_root)
    for name in LOADERS:
        cfg[name].dataset.data_root = source
    for name in ('val_evaluator', 'test_evaluator'):
        if file := cfg[name].get('ann_file'):
            cfg[name].ann_file = os.path.join(source, os.path.relpath(file, before))
    return f'{source}: the {what}, {AS_PUBLIC}'


def _is_coco(own: OwnScenes) -> bool:
    from comad.data.check.coco import COCOCheck

    public = len(own.classes) == COCOCheck.official['train categories']
    return public and own.splits['train'][0].endswith('instances_train2017.json')


def _keep_zero(node: Any) -> None:
    """Let no step of a pipeline take the class 0 for what is not labelled."""
    if isinstance(node, dict):
        if node.get('reduce_zero_label'):
            node['reduce_zero_label'] = False
        _keep_zero(list(node.values()))
    elif isinstance(node, (list, tuple)):
        for value in node:
            _keep_zero(value)


def drawn(is_held_out: bool) -> str:
    """How the validation images were chosen, where the data do not say it."""
    if not is_held_out:
        return ''
    return f', {HOLDOUT["holdout"]:.0%} drawn by seed {HOLDOUT["seed"]}'


def set_classes(node: Any, classes: int) -> None:
    """Give every head of a model that number of classes."""
    if isinstance(node, dict):
        for key, value in node.items():
            if key == 'num_classes' and isinstance(value, int):
                node[key] = classes
            elif key != 'backbone':
                set_classes(value, classes)
    elif isinstance(node, (list, tuple)):
        for value in node:
            set_classes(value, classes)


def _fit_batch(cfg: Config, images: int) -> str:
    """Make the batch of a process no larger than its share of the images, and say so."""
    loader = cfg.train_dataloader
    most = max(1, images // int(os.environ.get('WORLD_SIZE') or 1))
    if loader.batch_size <= most:
        return ''
    text = f'; batch {most} instead of {loader.batch_size} per process (--auto-scale-lr keeps the '
    loader.batch_size = most
    return text + 'rate of an image)'
