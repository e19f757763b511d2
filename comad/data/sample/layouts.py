"""Writes the sample in the on-disk layouts of ImageNet, ADE20K, COCO and CIFAR-100."""

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from comad.data.cifar_files import COARSE, EDGE, FILES, FINE
from comad.data.sample.digits import DIGITS, DigitRenderer
from comad.data.sample.scenes import CLASSES, SIZE, Scene, SceneRenderer

JPEG_QUALITY = 95
ADE_SPLITS = {'train': 'training', 'val': 'validation'}
# COCO's image ids are unique over both splits.
FIRST_IMAGE = {'train': 1, 'val': 500_001}


def wnid(kind: int) -> str:
    """Folder of a class, named like ImageNet's."""
    return f'n{kind:08d}'


def encode(image: np.ndarray, kind: str) -> bytes:
    """JPEG or PNG bytes of an image, (H, W, 3) RGB or (H, W) uint8."""
    options = [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY] if kind == '.jpg' else []
    return cv2.imencode(kind, image[..., ::-1] if image.ndim == 3 else image, options)[1].tobytes()


def label_map(scene: Scene) -> np.ndarray:
    """ADE-like labels (64, 64) uint8: 0 the rim of blobs, 1 background, 2-11 the classes."""
    labels = np.where(scene.border, 0, 1).astype(np.uint8)
    for kind, mask in zip(scene.classes, scene.masks, strict=True):
        labels[mask] = 2 + kind
    return labels


def run_lengths(mask: np.ndarray) -> list[int]:
    """COCO's uncompressed run lengths of a mask (H, W): column-wise, starting with zeros."""
    flat = mask.ravel(order='F')
    edges = np.flatnonzero(flat[1:] != flat[:-1]) + 1
    counts = np.diff([0, *edges.tolist(), flat.size]).tolist()
    return [0, *counts] if flat[0] else counts


def write_imagenet(root: Path, split: str, renderer: SceneRenderer, indices: range) -> None:
    """Write some images as ``imagenet/<split>/<wnid>/*.JPEG``."""
    folder = root / 'imagenet' / split
    for kind in range(len(CLASSES)):
        (folder / wnid(kind)).mkdir(parents=True, exist_ok=True)
    for index in indices:
        scene = renderer.single(index)
        name = wnid(scene.classes[0])
        file = f'{name}_{index}' if split == 'train' else f'ILSVRC2012_val_{index + 1:08d}'
        (folder / name / f'{file}.JPEG').write_bytes(encode(scene.image, '.jpg'))


def write_scenes(
    root: Path, split: str, renderer: SceneRenderer, indices: range
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Write some scenes below ``ade/`` and ``coco/``; what `write_instances` takes of them."""
    ade, coco = root / 'ade/ADEChallengeData2016', root / 'coco'
    images, labels = (ade / kind / ADE_SPLITS[split] for kind in ('images', 'annotations'))
    for folder in (images, labels, coco / f'{split}2017'):
        folder.mkdir(parents=True, exist_ok=True)
    image_entries, instances = [], []
    for index in indices:
        scene, image_id = renderer.several(index), FIRST_IMAGE[split] + index
        data, file = encode(scene.image, '.jpg'), f'{image_id:012d}.jpg'
        name = f'ADE_{split}_{index + 1:08d}'
        (images / f'{name}.jpg').write_bytes(data)
        (labels / f'{name}.png').write_bytes(encode(label_map(scene), '.png'))
        (coco / f'{split}2017' / file).write_bytes(data)
        image_entries.append({'id': image_id, 'file_name': file, 'height': SIZE, 'width': SIZE})
        for position, (kind, mask) in enumerate(zip(scene.classes, scene.masks, strict=True)):
            instances.append(_instance(image_id * 10 + position, image_id, kind, mask))
    return image_entries, instances


def write_instances(
    root: Path, split: str, images: list[dict[str, Any]], instances: list[dict[str, Any]]
) -> None:
    """Write ``coco/annotations/instances_<split>2017.json``, in the order given."""
    content = {
        'info': {'description': 'scenes of patterned blobs', 'version': '2'},
        'licenses': [],
        'images': images,
        'annotations': instances,
        'categories': [
            {'id': kind + 1, 'name': name, 'supercategory': 'pattern'}
            for kind, name in enumerate(CLASSES)
        ],
    }
    path = root / 'coco/annotations' / f'instances_{split}2017.json'
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(content, separators=(',', ':')) + '\n', encoding='utf-8')


def cifar_bytes(renderer: DigitRenderer, indices: range) -> bytes:
    """Some images as ``cifar-100-binary/{train,test}.bin`` holds them.

    Handwritten digits at 32 px, pixels averaged. The fine label is the digit, the coarse one
    whether it is odd.
    """
    parts = []
    for index in indices:
        digit = index % len(DIGITS)
        small = cv2.resize(renderer.image(index), (EDGE, EDGE), interpolation=cv2.INTER_AREA)
        parts.append(bytes((digit % 2, digit)) + small.transpose(2, 0, 1).tobytes())
    return b''.join(parts)


def write_cifar(root: Path, split: str, content: bytes) -> None:
    """Write ``cifar-100-binary/{train,test}.bin`` and the names of its labels."""
    folder = root / 'cifar-100-binary'
    folder.mkdir(exist_ok=True)
    (folder / FINE).write_text('\n'.join(DIGITS) + '\n', encoding='utf-8')
    (folder / COARSE).write_text('even\nodd\n', encoding='utf-8')
    (folder / FILES[split]).write_bytes(content)


def _instance(number: int, image_id: int, kind: int, mask: np.ndarray) -> dict[str, Any]:
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    x, y = int(columns[0]), int(rows[0])
    return {
        'id': number,
        'image_id': image_id,
        'category_id': kind + 1,
        'bbox': [x, y, int(columns[-1]) + 1 - x, int(rows[-1]) + 1 - y],
        'area': int(mask.sum()),
        'iscrowd': 0,
        'segmentation': {'size': [SIZE, SIZE], 'counts': run_lengths(mask)},
    }
