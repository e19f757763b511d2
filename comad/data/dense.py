"""Data sets of mmseg and mmdet, looked at when they are built: files, labels and annotations."""

import inspect
import os
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Any

from mmengine.dataset import BaseDataset
from mmengine.registry import DATASETS
from PIL import Image

from comad.data.coco import annotations_type
from comad.data.decode import (
    DECODE_ERRORS,
    FORMATS,
    IGNORED,
    LABEL_MODES,
    first_line,
    orientation_of,
)
from comad.data.own_dense import OWN_TYPES

FILES = ('img_path', 'seg_map_path')


def build_dataset(config: Mapping[str, Any]) -> Any:
    """A data set from its config; those of mmseg and mmdet have images, and annotations that fit.

    Raises:
        ValueError: no image is left, or not one of the files is where it is expected; annotations
            that cannot be trained on, see `comad.data.coco.read_whole`.
    """
    with DATASETS.switch_scope_and_registry(config.get('_scope_')) as registry:
        kind = config.get('type')
        kind = registry.get(kind) if isinstance(kind, str) else kind
        if kind in OWN_TYPES:
            kind = OWN_TYPES[kind]()
            config = {**config, 'type': kind}
        if not (inspect.isclass(kind) and issubclass(kind, BaseDataset)):
            return registry.build(config)
        dataset = registry.build({**config, 'lazy_init': True})
    if hasattr(dataset, 'COCOAPI'):
        steps = dataset.pipeline.transforms
        masks = any(getattr(step, 'with_mask', False) for step in steps)
        dataset.COCOAPI = partial(
            annotations_type(), masks=masks, own=getattr(dataset, 'own', None)
        )
    try:
        dataset.full_init()
        left = len(dataset)
    except ValueError as error:
        if 'need at least one array' not in str(error):  # MMEngine's words for an empty list
            raise
        left = 0
    if not left:
        ending = getattr(dataset, 'img_suffix', '')
        named = f'; images end in {ending} (img_suffix)' if ending else ''
        raise ValueError(f'{_place(dataset)}: no images with annotations are left{named}')
    if hasattr(dataset, 'COCOAPI') and not dataset.test_mode:
        _check_some_can_be_learnt(dataset)
    dataset.__dict__.pop('COCOAPI', None)  # it cannot be sent to another process
    _check_some_are_there(dataset)
    return dataset


def _place(dataset: Any) -> str:
    folders = ', '.join(str(folder) for folder in dataset.data_prefix.values() if folder)
    return f'{dataset.ann_file} and {folders}' if dataset.ann_file else folders


def _check_some_can_be_learnt(dataset: Any) -> None:
    samples = map(dataset.get_data_info, range(len(dataset)))
    if not any(not one['ignore_flag'] for sample in samples for one in sample['instances']):
        raise ValueError(
            f'{_place(dataset)}: no annotation is left to learn from: crowds (iscrowd 1) and boxes '
            'of less than a pixel inside of the image are not learnt from'
        )


def _check_some_are_there(dataset: Any) -> None:
    first = dataset.get_data_info(0)
    for key in FILES:
        path = first.get(key)
        if not isinstance(path, str) or '://' in path or os.path.exists(path):
            continue
        paths = (dataset.get_data_info(index)[key] for index in range(len(dataset)))
        if not any(map(os.path.exists, paths)):
            raise ValueError(
                f'none of {len(dataset):,} files is where it is expected, {path} is the first: '
                f'data_root, data_prefix ({dict(dataset.data_prefix)}) and the names do not fit'
            )


def files_of(info: Mapping[str, Any]) -> list[str]:
    """Local files behind a sample."""
    paths = (info.get(key) for key in FILES)
    return [path for path in paths if isinstance(path, str) and '://' not in path]


def check_headers(info: Mapping[str, Any]) -> None:
    """Compare what the files of a sample say of themselves: label maps with their image and mode,
    an image with the edges that it is annotated with.

    Raises:
        OSError: they do not fit, or a file cannot be read; the message names the file.
    """
    images = files_of({'img_path': info.get('img_path')})
    labels = files_of({'seg_map_path': info.get('seg_map_path')})
    if not images:
        return
    with _opened(images[0]) as image:
        edges, orientation = image.size, orientation_of(image)
    turned = f'; its EXIF orientation {orientation} is not applied' if orientation != 1 else ''
    stated = (info.get('width'), info.get('height'))
    if all(isinstance(edge, int) for edge in stated) and stated != edges:
        raise OSError(f'{images[0]}: {_by(edges)} px, annotated as {_by(stated)}{turned}')
    for path in labels:
        with _opened(path) as found:
            if found.mode not in LABEL_MODES:
                raise OSError(f'{path}: mode {found.mode}, expected class indices in one channel')
            if found.size != edges:
                raise OSError(f'{path}: {_by(found.size)} px, its image {_by(edges)}{turned}')
            if found.mode.startswith('I') and (highest := found.getextrema()[1]) > IGNORED:
                raise OSError(f'{path}: holds {highest}, expected class indices up to {IGNORED}')


def _opened(path: str) -> Image.Image:
    try:
        return Image.open(path, formats=FORMATS)
    except DECODE_ERRORS as error:
        if isinstance(error, OSError) and error.errno:
            raise
        reason = 'no image' if 'cannot identify' in str(error) else first_line(error)
        raise OSError(f'{path}: cannot be read as an image ({reason})') from error


def _by(edges: Sequence[Any]) -> str:
    return 'x'.join(map(str, edges))


def check_labels(sample: Any, classes: int) -> None:
    """Look for a class that the data set does not have in the label map of a sample.

    Raises:
        OSError: naming it.
    """
    for one in _data_samples(sample):
        if 'gt_sem_seg' in one:
            labels = one.gt_sem_seg.data
            highest = int(labels.where(labels != IGNORED, 0).max())
            if highest >= classes:
                raise OSError(
                    f'{one.get("seg_map_path")}: holds class {highest}, the data set has '
                    f'{classes}, counted from 0'
                )


def _data_samples(sample: Any) -> Iterator[Any]:
    found = sample.get('data_samples') if isinstance(sample, dict) else None
    yield from found if isinstance(found, (list, tuple)) else ([] if found is None else [found])
