"""What goes into which tar shard."""

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from comad.data.folders import ClassFolders
from comad.data.manifest import digest_lines
from comad.data.reencoding import Reencoding


class Item(NamedTuple):
    """An image to pack: its file, member name, size in bytes and label."""

    source: str
    member: str
    size: int
    label: int


class Shard(NamedTuple):
    """A shard to write; images as they are without a ``reencoding``."""

    path: Path
    items: list[Item]
    reencoding: Reencoding | None

    def source(self) -> str:
        """Digest of what is packed, by names and sizes."""
        return digest_lines((item.member, item.size, None) for item in self.items)


def plan_shards(
    storage: ClassFolders,
    folder: Path,
    split: str,
    images_per_shard: int,
    reencoding: Reencoding | None,
) -> list[Shard]:
    """The shards of a split, images in the order of the storage.

    Raises:
        ValueError: a file name that no key can be made of.
    """
    items = list(_items(storage))
    starts = range(0, len(items), images_per_shard)
    digits = max(6, len(str(len(starts))))
    return [
        Shard(
            folder / f'{split}-{number:0{digits}}.tar',
            items[start : start + images_per_shard],
            reencoding,
        )
        for number, start in enumerate(starts)
    ]


def _items(storage: ClassFolders) -> Iterator[Item]:
    keys = set()
    for index, label in enumerate(storage.labels.tolist()):
        path = Path(storage.path(index))
        if '.' in path.stem:
            raise ValueError(f'{path}: a key ends at the first dot; rename the file')
        key = f'{storage.classes[label]}/{path.stem}'
        if key in keys:
            raise ValueError(f'{path}: another file of the class has the key {key}; rename one')
        keys.add(key)
        yield Item(str(path), f'{key}{path.suffix}', path.stat().st_size, label)
