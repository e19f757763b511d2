"""Storage in tar shards of WebDataset's layout, read at random places.

``root/<split>/*.tar`` hold samples ``<key>.<jpg|jpeg|png>`` with ``<key>.cls``, the label as
decimal text; ``root/classes.txt`` names the classes, one per line in the order of labels.
"""

import os
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np

from comad.data.shard_index import Progress, load_index
from comad.data.shard_manifest import describe_images

CLASSES = 'classes.txt'
# Of one process; the usual limit is 1,024.
MAX_OPEN = 256


class TarShards:
    """Images of the shards in ``folder``, in the order that `ClassFolders` would give them.

    Args:
        folder: of the split; ``classes.txt`` lies beside it.
        progress: called with shards done and in all, if the shards must be scanned.

    Attributes:
        classes: of classes.txt.
        labels: (N,) int64.
        names: (N,) file names as bytes, without folders.
        images: how they were made smaller; None for original bytes and shards of others.

    Raises:
        OSError: classes.txt is missing.
        ValueError: a malformed classes.txt, shards.json or shard; a class without images.
    """

    kind = 'tar shards'

    def __init__(self, folder: str | Path, progress: Progress | None = None) -> None:
        self.folder = Path(folder)
        self.classes = read_classes(self.folder.parent)
        self.images = describe_images(self.folder)
        self.index = load_index(self.folder, len(self.classes), progress)
        self.labels = self.index.labels
        members = self.index.members.tolist()
        self.names = np.array([name.rpartition(b'/')[2] for name in members], dtype=bytes)
        empty = np.flatnonzero(np.bincount(self.labels, minlength=len(self.classes)) == 0)
        if empty.size:
            name = self.classes[empty[0]]
            raise ValueError(f'{self.folder}: the shards hold no image of class {name}')
        self._open: OrderedDict[int, int] = OrderedDict()
        self._owner = os.getpid()

    def __len__(self) -> int:
        return len(self.labels)

    def place(self, index: int) -> str:
        """Where the image is, for messages: shard and member."""
        shard = self.index.files[self.index.shards[index]]
        return f'{self.folder / str(shard)}: {os.fsdecode(bytes(self.index.members[index]))}'

    def read(self, index: int) -> bytes:
        """The bytes of the image file.

        Raises:
            OSError: the shard is gone or shorter than it was.
        """
        shard, size = int(self.index.shards[index]), int(self.index.sizes[index])
        data = os.pread(self._descriptor(shard), size, int(self.index.offsets[index]))
        if len(data) != size:
            raise OSError(
                f'{self.place(index)}: the shard is cut off ({len(data)} of {size} bytes)'
            )
        return data

    def _descriptor(self, shard: int) -> int:
        # Workers are forked: their parent's handles stay the parent's.
        if self._owner != os.getpid():
            self._open, self._owner = OrderedDict(), os.getpid()
        if shard in self._open:
            self._open.move_to_end(shard)
        else:
            if len(self._open) >= MAX_OPEN:
                os.close(self._open.popitem(last=False)[1])
            path = self.folder / str(self.index.files[shard])
            self._open[shard] = os.open(path, os.O_RDONLY)
        return self._open[shard]

    def close(self) -> None:
        """Close the shards; they open again when read."""
        if self._owner == os.getpid():
            for descriptor in self._open.values():
                os.close(descriptor)
        self._open.clear()

    def __del__(self) -> None:
        if hasattr(self, '_open'):
            self.close()

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, '_open': OrderedDict(), '_owner': -1}


def read_classes(root: Path) -> tuple[str, ...]:
    """Class names of ``root/classes.txt`` in the order of labels.

    Raises:
        FileNotFoundError: there is none.
        ValueError: it is empty, or names a class twice.
    """
    path = root / CLASSES
    if not path.is_file():
        raise FileNotFoundError(f'{path} is missing: tar shards need it, one class per line')
    lines = path.read_text(encoding='utf-8').splitlines()
    classes = tuple(name for line in lines if (name := line.strip()))
    if not classes:
        raise ValueError(f'{path}: no classes; expected one per line')
    if len(set(classes)) < len(classes):
        twice = next(name for name in classes if classes.count(name) > 1)
        raise ValueError(f'{path}: the class {twice} is named twice')
    return classes
