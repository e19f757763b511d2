"""Where the images of a split are: class folders or tar shards, whichever is there.

Every storage has ``classes``, ``labels`` and ``names`` (the file names), sorted by label and file
name, ``read(index)`` and ``place(index)``; nothing here imports torch.
"""

import os
from pathlib import Path

import numpy as np

from comad.data.decode import IMAGE_SUFFIXES, is_image_name
from comad.data.shards import Progress, TarShards, read_classes, shard_files

OTHER_SPLIT = {'train': 'val', 'val': 'train'}
# Read by others, not here: rather an error than images that are silently left out.
OTHER_IMAGES = ('.bmp', '.gif', '.pgm', '.ppm', '.tif', '.tiff', '.webp')


class ClassFolders:
    """Images of ``folder/<class>/``; the sorted class folders are the labels.

    Args:
        folder: of the split.

    Attributes:
        classes: names of the class folders.
        labels: (N,) int64.
        names: (N,) file names as bytes; arrays, so that worker processes share the memory.

    Raises:
        ValueError: no class folder; one without images, with a folder inside, or with images in a
            format that is not read.
    """

    kind = 'class folders'

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        self.classes = tuple(class_folders(self.folder))
        if not self.classes:
            raise ValueError(f'{folder}: no class folders; expected {folder}/<class>/*.JPEG')
        names: list[bytes] = []
        counts = []
        for name in self.classes:
            found = _image_names(self.folder / name)
            names += found
            counts.append(len(found))
        self.names = np.array(names, dtype=bytes)
        self.labels = np.repeat(np.arange(len(counts)), counts)

    def __len__(self) -> int:
        return len(self.labels)

    def path(self, index: int) -> str:
        """Path of the image file."""
        name = os.fsdecode(bytes(self.names[index]))
        return os.path.join(self.folder, self.classes[self.labels[index]], name)

    def place(self, index: int) -> str:
        """Where the image is, for messages."""
        return self.path(index)

    def read(self, index: int) -> bytes:
        """The bytes of the image file."""
        with open(self.path(index), 'rb') as file:
            return file.read()


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


Storage = ClassFolders | TarShards


def open_storage(root: str | Path, split: str, progress: Progress | None = None) -> Storage:
    """Open ``root/split``, whose samples and labels are the same in either storage.

    Args:
        root: folder that holds the splits, and classes.txt beside tar shards.
        split: 'train', 'val' or any other folder of ``root``.
        progress: called with shards done and in all, if shards must be scanned.

    Raises:
        FileNotFoundError: the folder of the split does not exist, or no classes.txt.
        ValueError: neither class folders nor shards, or both; classes that differ from those of
            the other split; see also `ClassFolders` and `TarShards`.
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
    return TarShards(folder, progress) if shard_files(folder) else ClassFolders(folder)


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
