"""Class folders packed into tar shards, bytes unchanged."""

import io
import shutil
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from comad.datasets.files import atomic_file, write_text
from comad.datasets.folders import ClassFolders
from comad.datasets.pool import run_tasks
from comad.datasets.shard_index import Progress, scan_shard, shard_files
from comad.datasets.shards import CLASSES, TarShards, read_classes
from comad.datasets.storage import open_storage

IMAGES_PER_SHARD = 5000
# Header, padding and the label's own two blocks.
OVERHEAD = 2048


class Item(NamedTuple):
    """An image to pack: its file, member name, size in bytes and label."""

    source: str
    member: str
    size: int
    label: int


class Shard(NamedTuple):
    """A shard to write."""

    path: Path
    items: list[Item]


def write_shards(
    root: str | Path,
    out: str | Path,
    split: str,
    images_per_shard: int = IMAGES_PER_SHARD,
    workers: int = 1,
    progress: Progress | None = None,
    report: Callable[[str], None] | None = None,
) -> int:
    """Pack ``root/split/<class>/`` into ``out/split/<split>-<number>.tar`` and ``out/classes.txt``.

    Images are in the order of the sorted class folders and file names; the key of an image is
    ``<class>/<file name without suffix>``. Each shard appears under its name only when complete,
    and one that is there with the same members is kept, so a stopped run goes on where it was.

    Args:
        root: folder of the class folders' splits.
        out: folder to write.
        split: 'train' or 'val'.
        images_per_shard: at most.
        workers: processes that write.
        progress: called with images done and images in all.
        report: called with one line for shards that are kept.

    Returns:
        Number of shards written.

    Raises:
        FileNotFoundError: the folder of the split does not exist.
        FileExistsError: ``out`` holds shards or classes of something else.
        OSError: not enough disk space; an image cannot be read.
        ValueError: a file name that no key can be made of; images_per_shard below 1.
    """
    if images_per_shard < 1:
        raise ValueError(f'images_per_shard={images_per_shard}: expected 1 or more')
    storage = open_storage(root, split)
    if isinstance(storage, TarShards):
        raise ValueError(f'{root}/{split}: these are tar shards already')
    folder = Path(out) / split
    folder.mkdir(parents=True, exist_ok=True)
    shards = _plan(storage, folder, split, images_per_shard)
    _write_classes(Path(out), storage.classes)
    missing = [shard for shard in shards if not _is_there(shard)]
    planned = {shard.path for shard in shards}
    if foreign := [path for path in shard_files(folder) if path not in planned]:
        raise FileExistsError(
            f'{foreign[0]}: not one of the {len(shards)} shards of this run; {MOVE}'
        )
    if report and len(missing) < len(shards):
        report(f'{len(shards) - len(missing)} of {len(shards)} shards of {split} are there: kept')
    need = sum(item.size + OVERHEAD for shard in missing for item in shard.items)
    if need > (free := shutil.disk_usage(folder).free):
        raise OSError(f'{folder}: {need / 1e9:.1f} GB are needed, {free / 1e9:.1f} GB are free')
    done, total = 0, sum(len(shard.items) for shard in missing)
    for count in run_tasks(write_shard, missing, workers):
        done += count
        if progress:
            progress(done, total)
    # Reads every header once more, and saves the first training run from doing so.
    TarShards(folder, progress=lambda done, total: None).close()
    return len(missing)


MOVE = 'remove it or choose another --out'


def write_shard(shard: Shard) -> int:
    """Write one shard, the same bytes each time; returns the number of images."""
    with (
        atomic_file(shard.path) as file,
        tarfile.open(
            fileobj=file, mode='w', format=tarfile.GNU_FORMAT, errors='surrogateescape'
        ) as tar,
    ):
        for item in shard.items:
            data = Path(item.source).read_bytes()
            if len(data) != item.size:
                raise OSError(f'{item.source}: changed while it was packed')
            _add(tar, item.member, data)
            _add(tar, f'{item.member.rpartition(".")[0]}.cls', str(item.label).encode())
    return len(shard.items)


def _add(tar: tarfile.TarFile, name: str, data: bytes) -> None:
    member = tarfile.TarInfo(name)
    member.size, member.mode = len(data), 0o644
    tar.addfile(member, io.BytesIO(data))


def _plan(storage: ClassFolders, folder: Path, split: str, images_per_shard: int) -> list[Shard]:
    items = list(_items(storage))
    starts = range(0, len(items), images_per_shard)
    digits = max(6, len(str(len(starts))))
    return [
        Shard(folder / f'{split}-{number:0{digits}}.tar', items[start : start + images_per_shard])
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


def _is_there(shard: Shard) -> bool:
    """Whether the shard is complete; an error if it is another one."""
    if not shard.path.exists():
        return False
    found = [(one.member, one.size, one.label) for one in scan_shard(shard.path)]
    if found != [(item.member, item.size, item.label) for item in shard.items]:
        raise FileExistsError(f'{shard.path}: holds other images than this run would write; {MOVE}')
    return True


def _write_classes(out: Path, classes: tuple[str, ...]) -> None:
    path = out / CLASSES
    if path.exists():
        if read_classes(out) != classes:
            raise FileExistsError(f'{path}: names other classes than the folders do; {MOVE}')
        return
    write_text(path, ''.join(f'{name}\n' for name in classes))
