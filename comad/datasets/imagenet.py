"""ImageNet's folder layout, one folder per class."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mmengine.registry import DATASETS
from PIL import Image
from torchvision.datasets import ImageFolder

from comad.datasets.transforms import build_views


@DATASETS.register_module()
class ImageNetFolder(ImageFolder):
    """Images of ``root/split/<class>/``; the sorted class folders are the labels.

    Args:
        root: folder that holds ``train`` and ``val``.
        split: 'train', 'val' or any other folder of ``root``.
        views: config of a view type of `comad.datasets.transforms`.

    Raises:
        FileNotFoundError: the folder of the split does not exist.
        ValueError: unknown view options; no class folders; a class without images; class folders
            that differ from those of the other split.
    """

    def __init__(
        self, root: str | Path, split: str = 'train', views: Mapping[str, Any] | None = None
    ) -> None:
        # Before the scan of a million files.
        self.views = build_views(views or {'type': 'SingleView'})
        folder = Path(root) / split
        if not folder.is_dir():
            raise FileNotFoundError(
                f'missing data: {folder}, with one folder of images per class '
                f'({folder}/<class>/*.JPEG); or add --sample to run on the embedded sample'
            )
        _check_classes(Path(root), split)
        super().__init__(str(folder), loader=read_image, allow_empty=True)
        empty = sorted(set(range(len(self.classes))) - set(self.targets))
        if empty:
            raise ValueError(f'{folder / self.classes[empty[0]]}: the class folder has no images')
        self.metainfo = {'classes': tuple(self.classes)}

    def __getitem__(self, index: int) -> dict[str, Any]:
        """``inputs``: (3, H, W) uint8 or a list of such views; ``labels``: the class, int.

        Raises:
            OSError: the file cannot be read as an image.
        """
        path, label = self.samples[index]
        return {'inputs': self.views(self.loader(path)), 'labels': label}


def read_image(path: str) -> Image.Image:
    """Decode an image file as RGB.

    Raises:
        OSError: it is no image, or damaged; the message names the file.
    """
    try:
        with Image.open(path) as image:
            return image.convert('RGB')
    except (OSError, SyntaxError, ValueError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise OSError(f'{path}: cannot be read as an image ({reason})') from error


def _check_classes(root: Path, split: str) -> None:
    """Labels are positions in the sorted folder names: they must mean the same in both splits."""
    other = {'train': 'val', 'val': 'train'}.get(split)
    mine = _class_folders(root / split)
    if not mine:
        raise ValueError(
            f'{root / split}: no class folders; expected {root / split}/<class>/*.JPEG'
        )
    if other and (root / other).is_dir():
        difference = sorted(mine ^ _class_folders(root / other))
        if difference:
            name = difference[0]
            here, there = (split, other) if name in mine else (other, split)
            raise ValueError(f'{root}: the class folder {name} is in {here} but not in {there}')


def _class_folders(folder: Path) -> set[str]:
    with os.scandir(folder) as entries:
        return {entry.name for entry in entries if entry.is_dir()}
