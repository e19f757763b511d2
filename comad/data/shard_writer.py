"""Class folders packed into tar shards, bytes unchanged or images made smaller."""

import hashlib
import io
import shutil
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

from backbones.files import atomic_file, sha256_of, write_text
from comad.data.pool import run_tasks
from comad.data.reencoding import ORIGINAL, Reencoding
from comad.data.shard_index import Progress, scan_shard, shard_files
from comad.data.shard_manifest import (
    SHARDS,
    ShardManifest,
    check_same,
    read_shard_manifest,
)
from comad.data.shard_plan import Item, Shard, plan_shards
from comad.data.shards import CLASSES, TarShards, read_classes
from comad.data.storage import open_storage

IMAGES_PER_SHARD = 5000
# Header, padding and the label's own two blocks.
OVERHEAD = 2048
# Images that are tried to estimate the size of all, and what is added to the estimate.
TRIED, RESERVE = 48, 1.1
MOVE = 'remove it or choose another --out'


def write_shards(
    root: str | Path,
    out: str | Path,
    split: str,
    images_per_shard: int = IMAGES_PER_SHARD,
    workers: int = 1,
    progress: Progress | None = None,
    report: Callable[[str], None] | None = None,
    reencoding: Reencoding | None = None,
) -> int:
    """Pack ``root/split/<class>/`` into ``out/split/<split>-<number>.tar`` and ``out/classes.txt``.

    Images are in the order of the sorted class folders and file names; the key of an image is
    ``<class>/<file name without suffix>``. Each shard appears under its name only when complete,
    and one that is there with the same members is kept, so a stopped run goes on where it was.
    ``out/split/shards.json`` holds the settings and a digest of every shard.

    Args:
        root: folder of the class folders' splits.
        out: folder to write.
        split: 'train' or 'val'.
        images_per_shard: at most.
        workers: processes that write.
        progress: called with images done and images in all.
        report: called with one line for shards that are kept.
        reencoding: how images are made smaller; None packs the original bytes.

    Returns:
        Number of shards written.

    Raises:
        FileNotFoundError: the folder of the split does not exist.
        FileExistsError: ``out`` holds shards or classes of something else, or made otherwise.
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
    shards = plan_shards(storage, folder, split, images_per_shard, reencoding)
    manifest = _manifest(folder, images_per_shard, reencoding)
    _write_classes(Path(out), storage.classes)
    missing = [shard for shard in shards if not _is_there(shard, manifest)]
    planned = {shard.path for shard in shards}
    if foreign := [path for path in shard_files(folder) if path not in planned]:
        raise FileExistsError(
            f'{foreign[0]}: not one of the {len(shards)} shards of this run; {MOVE}'
        )
    if report and len(missing) < len(shards):
        report(f'{len(shards) - len(missing)} of {len(shards)} shards of {split} are there: kept')
    if missing:
        _check_libraries(folder, manifest, reencoding)
        _check_space(folder, missing, reencoding)
    # Before the first shard: one that is there later was made with these settings.
    manifest.write(folder)
    done, total = 0, sum(len(shard.items) for shard in missing)
    for name, entry in run_tasks(write_shard, missing, workers):
        manifest.shards[name] = entry
        manifest.write(folder)
        done += entry['images']
        if progress:
            progress(done, total)
    # Reads every header once more, and saves the first training run from doing so.
    TarShards(folder, progress=lambda done, total: None).close()
    return len(missing)


class _Hashed:
    """A file that is written from front to back, with its sha256."""

    def __init__(self, file: IO[bytes]) -> None:
        self.file, self.sha256 = file, hashlib.sha256()

    def write(self, data: bytes) -> int:
        self.sha256.update(data)
        return self.file.write(data)

    def tell(self) -> int:
        return self.file.tell()


def write_shard(shard: Shard) -> tuple[str, dict[str, Any]]:
    """Write one shard, the same bytes each time; returns its name and entry in the manifest."""
    with atomic_file(shard.path) as file:
        hashed = _Hashed(file)
        with tarfile.open(
            fileobj=hashed, mode='w', format=tarfile.GNU_FORMAT, errors='surrogateescape'
        ) as tar:
            for item in shard.items:
                _add(tar, item.member, _packed(item, shard.reencoding))
                _add(tar, f'{item.member.rpartition(".")[0]}.cls', str(item.label).encode())
        size = hashed.tell()
    return shard.path.name, _entry(shard, size, hashed.sha256.hexdigest())


def _entry(shard: Shard, size: int, sha256: str) -> dict[str, Any]:
    return dict(images=len(shard.items), bytes=size, sha256=sha256, source=shard.source())


def _packed(item: Item, reencoding: Reencoding | None) -> bytes:
    data = Path(item.source).read_bytes()
    if len(data) != item.size:
        raise OSError(f'{item.source}: changed while it was packed')
    return reencoding(data, item.source) if reencoding else data


def _add(tar: tarfile.TarFile, name: str, data: bytes) -> None:
    member = tarfile.TarInfo(name)
    member.size, member.mode = len(data), 0o644
    tar.addfile(member, io.BytesIO(data))


def _manifest(folder: Path, images_per_shard: int, reencoding: Reencoding | None) -> ShardManifest:
    """The manifest that is there, if its settings are this run's, or a new one."""
    settings = reencoding.settings() if reencoding else ORIGINAL
    settings = {**settings, 'images_per_shard': images_per_shard}
    manifest = read_shard_manifest(folder)
    if manifest is not None:
        check_same(folder, 'made with', manifest.settings, settings)
        return manifest
    if reencoding and (there := shard_files(folder)):
        raise FileExistsError(
            f'{there[0]}: was packed without {SHARDS}, so with original bytes; go on with '
            f'--original, {MOVE}'
        )
    return ShardManifest(settings, reencoding.libraries() if reencoding else {})


def _check_libraries(folder: Path, manifest: ShardManifest, reencoding: Reencoding | None) -> None:
    """Shards of one split are made by the same versions."""
    mine = reencoding.libraries() if reencoding else {}
    if manifest.shards:
        check_same(folder, 'made by', manifest.libraries, mine)
    manifest.libraries = mine


def _check_space(folder: Path, shards: list[Shard], reencoding: Reencoding | None) -> None:
    items = [item for shard in shards for item in shard.items]
    size = sum(item.size for item in items)
    if reencoding:
        size *= RESERVE * _shrinkage(items[:: max(1, len(items) // TRIED)], reencoding)
    need = size + len(items) * OVERHEAD
    if need > (free := shutil.disk_usage(folder).free):
        about = 'about ' if reencoding else ''
        raise OSError(
            f'{folder}: {about}{need / 1e9:.1f} GB are needed, {free / 1e9:.1f} GB are free'
        )


def _shrinkage(items: list[Item], reencoding: Reencoding) -> float:
    """Bytes after over bytes before, of a few images; unreadable ones are named when packed."""
    before = after = 0
    for item in items:
        try:
            after += len(_packed(item, reencoding))
        except OSError:
            continue
        before += item.size
    return after / before if before else 1.0


def _is_there(shard: Shard, manifest: ShardManifest) -> bool:
    """Whether the shard is complete; an error if it is another one.

    One that the manifest knows is compared by source and size. One that was finished when a run
    was stopped before the manifest knew is compared by its members, and taken into the manifest.
    """
    if not shard.path.exists():
        return False
    entry, size = manifest.shards.get(shard.path.name), shard.path.stat().st_size
    if entry is not None and entry['source'] == shard.source():
        if entry['bytes'] != size:
            raise FileExistsError(
                f'{shard.path}: has {size:,} bytes, {entry["bytes"]:,} by {SHARDS}; {MOVE}'
            )
        return True
    if entry is not None or _members(shard) != _scanned(shard):
        raise FileExistsError(f'{shard.path}: holds other images than this run would write; {MOVE}')
    manifest.shards[shard.path.name] = _entry(shard, size, sha256_of(shard.path))
    return True


def _members(shard: Shard) -> list[tuple[str, int, int]]:
    """Name, label and size of what the shard should hold; sizes of original bytes only."""
    known = shard.reencoding is None
    return [(item.member, item.label, item.size if known else 0) for item in shard.items]


def _scanned(shard: Shard) -> list[tuple[str, int, int]]:
    known, found = shard.reencoding is None, scan_shard(shard.path)
    return [(item.member, item.label, item.size if known else 0) for item in found]


def _write_classes(out: Path, classes: tuple[str, ...]) -> None:
    path = out / CLASSES
    if path.exists():
        if read_classes(out) != classes:
            raise FileExistsError(f'{path}: names other classes than the folders do; {MOVE}')
        return
    write_text(path, ''.join(f'{name}\n' for name in classes))
