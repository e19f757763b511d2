"""Objects and masks of one's own: where a folder keeps images, COCO files or masks, and names.

Objects: one JSON, or one per split, of any categories. Masks: ``images`` and ``masks``, with
folders ``train`` and ``val`` in both or without, and ``classes.txt``, whose first line is the value
0.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from mmengine.registry import DATASETS
from PIL import Image

from comad.data.coco import read_whole
from comad.data.decode import DECODE_ERRORS, FORMATS, IGNORED, LABEL_MODES, is_image_name
from comad.data.manifest import MANIFEST
from comad.data.image_tables import SPLITS
from comad.data.own import check_names
from comad.data.shards import CLASSES, read_lines
from comad.data.subset import keep_split

MASKS = ('masks', 'labels', 'annotations', 'mask')
LOOKED_AT = 16  # masks of each split that are read before anything starts; the rest in their turn


@dataclass(frozen=True)
class OwnScenes:
    """Images with annotations.

    Args:
        root: folder that all paths are relative to.
        splits: ``train``, and ``val`` where there is one -> annotation file, or folder of masks,
            and folder of images.
        classes: names in the order of labels.
        images: number of images of each split.
        unused: names that no training annotation has, left out.
    """

    root: Path
    splits: Mapping[str, tuple[str, str]]
    classes: tuple[str, ...]
    images: Mapping[str, int]
    unused: tuple[str, ...] = ()


def find_objects(source: str | Path, masks: bool = True) -> OwnScenes:
    """COCO files of a folder, or a single one, and the folders of their images.

    Raises:
        FileNotFoundError: there is nothing.
        ValueError: no such files, or several that could be meant; see `read_whole`; categories that
            overlap; images that are nowhere.
    """
    source = Path(source)
    files = {'train': source} if source.is_file() else _annotation_files(source)
    root = source.parent if source.is_file() else source
    splits, images, used, names = {}, {}, set(), {}
    for split, path in files.items():
        content = read_whole(path, masks)
        known = {entry['id']: entry['name'] for entry in content['categories']}
        check_names(path, list(known.values()))
        if split == 'train':
            names, used = known, {entry['category_id'] for entry in content['annotations']}
        elif strange := sorted(set(known.values()) - set(names.values())):
            raise ValueError(
                f'{path}: the category {strange[0]!r} is not in {files["train"].name}, which has '
                f'{", ".join(names.values())}; name them alike in both'
            )
        folder = _image_folder(root, path, split, [one['file_name'] for one in content['images']])
        splits[split] = (os.path.relpath(path, root), os.path.relpath(folder, root))
        images[split] = len(content['images'])
    if not used:
        raise ValueError(f'{files["train"]}: no annotations of its images to learn from')
    classes = tuple(name for number, name in sorted(names.items()) if number in used)
    return OwnScenes(root, splits, classes, images, tuple(set(names.values()) - set(classes)))


def _annotation_files(root: Path) -> dict[str, Path]:
    if not root.is_dir():
        raise FileNotFoundError(f'{root}: no such folder or file; expected a COCO file in JSON')
    places = (root, root / 'annotations', *(root / name for name in SPLITS))
    found = [path for place in places for path in sorted(place.glob('[!.]*.json'))]
    found = [path for path in found if path.name != MANIFEST]
    files: dict[str, list[Path]] = {}
    for path in found:
        own = path.parent.name if path.parent.name in SPLITS else path.stem
        files.setdefault(SPLITS.get(own.lower().removeprefix('instances_'), own), []).append(path)
    if len(files) == 1 and sum(map(len, files.values())) == 1:
        return {'train': next(iter(files.values()))[0]}
    splits = {split: paths for split, paths in files.items() if split in ('train', 'val')}
    for split, paths in splits.items():
        if len(paths) > 1:
            raise ValueError(f'{root}: {paths[0]} and {paths[1]} are both of {split}; leave one')
    if 'train' not in splits:
        listed = ', '.join(str(path.relative_to(root)) for path in found[:3]) or 'none'
        raise ValueError(
            f'{root}: JSON files: {listed}; expected one COCO file, or annotations/train.json and '
            'annotations/val.json, or name the file itself'
        )
    return {split: paths[0] for split, paths in sorted(splits.items())}


def _image_folder(root: Path, path: Path, split: str, names: list[str]) -> Path:
    if not names:
        raise ValueError(f'{path}: names no images')
    own = [name for name, kind in SPLITS.items() if kind == split]
    places = [
        path.parent,
        *(root / name for name in own),
        *(root / 'images' / name for name in own),
    ]
    places += [root / 'images', root]
    found = {place: sum((place / name).is_file() for name in names[:50]) for place in places}
    best = max(found, key=found.__getitem__)
    if not found[best]:
        tried = ', '.join(dict.fromkeys(os.path.relpath(place, root) for place in places))
        raise ValueError(
            f'{path}: its image {names[0]} is in none of {tried} of {root}; put the images into '
            f'{root}/images'
        )
    return best


def find_masks(source: str | Path) -> OwnScenes:
    """Images and label maps of a folder.

    Raises:
        FileNotFoundError: there is no such folder, or no classes.txt.
        ValueError: an image without label map, or one of other values than classes.txt has lines.
    """
    root = Path(source)
    folder = next((name for name in MASKS if (root / name).is_dir()), None)
    if not (root / 'images').is_dir() or folder is None:
        raise FileNotFoundError(f'{root}: expected the folders images and masks, and {CLASSES}')
    if not (root / CLASSES).is_file():
        raise FileNotFoundError(
            f'{root / CLASSES} is missing: one class per line, the first is the value 0 of the '
            'masks'
        )
    classes = tuple(read_lines(root / CLASSES))
    check_names(root / CLASSES, classes)
    if not classes or len(set(classes)) < len(classes):
        raise ValueError(f'{root / CLASSES}: names no class, or one twice; expected one per line')
    inside = {name: kind for name, kind in SPLITS.items() if (root / 'images' / name).is_dir()}
    pairs = {kind: (f'{folder}/{name}', f'images/{name}') for name, kind in inside.items()}
    pairs.pop('test', None)
    if not pairs:
        pairs = {'train': (folder, 'images')}
    if 'train' not in pairs:
        raise ValueError(f'{root}/images: has {", ".join(inside)}, but no train')
    images = {}
    for split, (maps, pictures) in pairs.items():
        found = pair_masks(root / pictures, root / maps)
        for _, path in found[:: max(1, len(found) // LOOKED_AT)]:
            _check_values(path, len(classes), root / CLASSES)
        images[split] = len(found)
    return OwnScenes(root, pairs, classes, images)


def pair_masks(images: Path, masks: Path) -> list[tuple[Path, Path]]:
    """Every image and the PNG of its name in the folder of masks.

    Raises:
        ValueError: no images, or one without a mask.
    """
    names = sorted(entry.name for entry in os.scandir(images) if is_image_name(entry.name))
    if not names:
        raise ValueError(f'{images}: no images')
    pairs = [(images / name, masks / f'{Path(name).stem}.png') for name in names]
    if lone := [(image, mask) for image, mask in pairs if not mask.is_file()]:
        raise ValueError(
            f'{len(lone):,} of {len(pairs):,} images have no mask: {lone[0][0]} needs {lone[0][1]}'
        )
    return pairs


def _check_values(path: Path, classes: int, names: Path) -> None:
    try:
        with Image.open(path, formats=FORMATS) as image:
            mode, values = image.mode, np.unique(np.asarray(image))
    except DECODE_ERRORS as error:
        raise ValueError(f'{path}: cannot be read as an image') from error
    if mode not in LABEL_MODES:
        raise ValueError(f'{path}: mode {mode}, expected class indices in one channel (mode L)')
    beyond = [int(value) for value in values if classes <= value != IGNORED]
    if beyond:
        raise ValueError(
            f'{path}: holds the value {beyond[0]}, but {names} names {classes} classes, 0 to '
            f'{classes - 1}; {IGNORED} is what is not to be learnt or scored'
        )


@cache
def mask_folder_type() -> type:
    """mmseg's data set of the pairs of `pair_masks`; a function, as mmseg may not be installed."""
    from mmseg.datasets import BaseSegDataset

    class MaskFolder(BaseSegDataset):
        """Args: ``own``, how a split is drawn, and those of mmseg's."""

        def __init__(self, own: Mapping[str, Any] | None = None, **options: Any) -> None:
            self.own = own
            super().__init__(**options)

        def load_data_list(self) -> list[dict[str, Any]]:
            prefix = self.data_prefix
            pairs = pair_masks(Path(prefix['img_path']), Path(prefix['seg_map_path']))
            kept = keep_split([image.name for image, _ in pairs], self.own)
            common = dict(
                label_map=self.label_map, reduce_zero_label=self.reduce_zero_label, seg_fields=[]
            )
            return [
                dict(img_path=str(image), seg_map_path=str(mask), **common)
                for image, mask in pairs
                if image.name in kept
            ]

    return MaskFolder


@cache
def object_file_type() -> type:
    """mmdet's `CocoDataset` of a file that a split may be drawn from; a function as above."""
    from mmdet.datasets import CocoDataset

    class ObjectFile(CocoDataset):
        """Args: ``own``, how a split is drawn, and those of mmdet's."""

        def __init__(self, own: Mapping[str, Any] | None = None, **options: Any) -> None:
            self.own = own
            super().__init__(**options)

    return ObjectFile


@DATASETS.register_module(name='ObjectFile')
def object_file(**options: Any) -> Any:
    """The data set of `object_file_type`."""
    return object_file_type()(**options)


@DATASETS.register_module(name='MaskFolder')
def mask_folder(**options: Any) -> Any:
    """The data set of `mask_folder_type`."""
    return mask_folder_type()(**options)


OWN_TYPES = {mask_folder: mask_folder_type, object_file: object_file_type}
