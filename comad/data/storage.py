"""Where the images of a split are: class folders or tar shards, whichever is there."""

import os
from pathlib import Path

from comad.data.folders import ClassFolders, class_folders
from comad.data.images import is_image_name
from comad.data.shard_index import Progress, shard_files
from comad.data.shards import TarShards, read_classes

Storage = ClassFolders | TarShards
OTHER_SPLIT = {'train': 'val', 'val': 'train'}


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
            'see README, "Where data go", for sorting them into class folders'
        )
    return f'{folder}: no class folders; expected {folder}/<class>/*.JPEG or tar shards'
