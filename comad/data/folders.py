"""Storage in ImageNet's layout: one folder per class.

Every storage has ``classes``, ``labels`` and ``names`` (the file names), sorted by label and file
name, ``read(index)`` and ``place(index)``; nothing here imports torch.
"""

import os
from pathlib import Path

import numpy as np

from comad.data.images import IMAGE_SUFFIXES, is_image_name

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
