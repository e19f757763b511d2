"""Where the images of a split are: files in class folders or anywhere, or tar shards.

Every storage has ``classes``, ``labels`` and ``names`` (the file names), sorted by label and file
name, ``read(index)``, ``place(index)`` and ``take(positions)``; nothing here imports torch.
"""

import os
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

import numpy as np

from comad.data.decode import IMAGE_SUFFIXES, is_image_name
from comad.data.files import OTHER_IMAGES
from comad.data.shards import Progress, TarShards, read_classes, shard_files

OTHER_SPLIT = {'train': 'val', 'val': 'train'}


class ImageFiles:
    """Image files in the order given.

    Args:
        folder: that the paths are relative to.
        paths: (N,) as bytes; an array, so that worker processes share the memory.
        labels: (N,) int64; None: all 0, of no class.
        classes: their names.
        kind: what the files are, in words.
    """

    def __init__(
        self,
        folder: str | Path,
        paths: np.ndarray,
        labels: np.ndarray | None = None,
        classes: Sequence[str] = (),
        kind: str = 'image files',
    ) -> None:
        self.folder, self.paths, self.kind = Path(folder), paths, kind
        self.labels = np.zeros(len(paths), dtype=np.int64) if labels is None else labels
        self.classes = tuple(classes)

    def __len__(self) -> int:
        return len(self.labels)

    @cached_property
    def names(self) -> np.ndarray:
        """(N,) file names without their folders, as bytes."""
        return np.array([os.path.basename(path) for path in self.paths.tolist()], dtype=bytes)

    def take(self, positions: np.ndarray) -> 'ImageFiles':
        """The images at these positions alone."""
        paths, labels = self.paths[positions], self.labels[positions]
        return ImageFiles(self.folder, paths, labels, self.classes, self.kind)

    def path(self, index: int) -> str:
        """Path of the image file."""
        return os.path.join(self.folder, os.fsdecode(bytes(self.paths[index])))

    def place(self, index: int) -> str:
        """Where the image is, for messages."""
        return self.path(index)

    def read(self, index: int) -> bytes:
        """The bytes of the image file."""
        with open(self.path(index), 'rb') as file:
            return file.read()


def open_class_folders(folder: str | Path) -> ImageFiles:
    """Images of ``folder/<class>/``; the sorted class folders are the labels.

    Raises:
        ValueError: no class folder; one without images, with a folder inside, or with images in a
            format that is not read.
    """
    folder = Path(folder)
    classes = class_folders(folder)
    if not classes:
        raise ValueError(f'{folder}: no class folders; expected {folder}/<class>/*.JPEG')
    paths: list[bytes] = []
    counts = []
    for name in classes:
        found = _image_names(folder / name)
        paths += [os.path.join(os.fsencode(name), image) for image in found]
        counts.append(len(found))
    labels = np.repeat(np.arange(len(counts)), counts)
    return ImageFiles(folder, np.array(paths, dtype=bytes), labels, classes, 'class folders')


def class_folders(folder: Path) -> list[str]:
    """Sorted names of the folders in ``folder``, hidden ones left out."""
    with os.scandir(folder) as entries:
        return sorted(e.name for e in entries if e.is_dir() and not e.name.startswith('.'))


def _image_names(folder: Path) -> list[bytes]:
    names = []
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.startswith('.'):
                continue
            if is_image_name(entry.name):
                names.append(os.fsencode(entry.name))
            elif entry.name.lower().endswith(OTHER_IMAGES):
                accepted = ', '.join(IMAGE_SUFFIXES)
                raise ValueError(f'{entry.path}: images are read as {accepted}; convert this one')
            elif entry.is_dir():
                raise ValueError(f'{entry.path}: a folder inside a class folder is not read')
    if not names:
        raise ValueError(f'{folder}: the class folder has no images')
    return sorted(names)


Storage = ImageFiles | TarShards


def open_storage(root: str | Path, split: str, progress: Progress | None = None) -> Storage:
    """Open ``root/split``, whose samples and labels are the same in either storage.

    Args:
        root: folder that holds the splits, and classes.txt beside tar shards.
        split: 'train', 'val' or any other folder of ``root``.
        progress: called with shards done and in all, if shards must be scanned.

    Raises:
        FileNotFoundError: the folder of the split does not exist, or no classes.txt.
        ValueError: neither class folders nor shards, or both; classes that differ from those of
            the other split; see also `open_class_folders` and `TarShards`.
    """
    root = Path(root)
    folder, other = root / split, OTHER_SPLIT.get(split)
    if not folder.is_dir():
        raise FileNotFoundError(
            f'missing data: {folder}, with one folder of images per class '
            f'({folder}/<class>/*.JPEG) or tar shards; '
            'or add --sample to run on the embedded sample'
        )
    mine = class_names(root, split)
    if not mine:
        raise ValueError(_nothing_there(folder))
    # Labels are positions: they must mean the same in both splits.
    if other and (root / other).is_dir() and (theirs := class_names(root, other)) != mine:
        if not theirs:
            raise ValueError(_nothing_there(root / other))
        difference = sorted(set(mine) ^ set(theirs))
        if not difference:
            raise ValueError(f'{root}: classes.txt is not sorted like the class folders')
        name = difference[0]
        here, there = (split, other) if name in mine else (other, split)
        raise ValueError(f'{root}: the class folder {name} is in {here} but not in {there}')
    return TarShards(folder, progress) if shard_files(folder) else open_class_folders(folder)


def class_names(root: Path, split: str) -> tuple[str, ...]:
    """Classes of a split in the order of labels, without looking at images.

    Raises:
        ValueError: class folders and tar files in one folder.
    """
    folders, shards = class_folders(root / split), shard_files(root / split)
    if folders and shards:
        raise ValueError(
            f'{root / split}: both class folders and tar files ({shards[0].name}); '
            'move one kind elsewhere'
        )
    return read_classes(root) if shards else tuple(folders)


def loose_images(folder: Path) -> int:
    """Number of images directly in a folder, where class folders or shards should be."""
    with os.scandir(folder) as entries:
        return sum(is_image_name(entry.name) for entry in entries)


def _nothing_there(folder: Path) -> str:
    if count := loose_images(folder):
        return (
            f'{folder}: no class folders, but {count:,} images directly in it; '
            'see docs/data.md for sorting them into class folders'
        )
    return f'{folder}: no class folders; expected {folder}/<class>/*.JPEG or tar shards'
