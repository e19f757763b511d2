"""Class folders packed into tar shards: what `tools/data.py shard` writes.

By default images are made smaller: the short side becomes 256 px, the size at which evaluation cuts
its 224 px centre, and the file a JPEG of quality 90: our choice. Only ever smaller: an image whose
short side is not above that keeps its bytes. Pixels are as stored, so an EXIF orientation is
ignored as the readers ignore it, and left out of the new file with all other metadata. CMYK and
grey become RGB as the readers do it.
"""

import io
import shutil
import tarfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

import PIL
from PIL import Image, features

from backbones.files import atomic_file, sha256_of, write_text
from comad.data.decode import DECODE_ERRORS, decode_pillow, unreadable
from comad.data.manifest import SHARDS, ShardManifest, digest_lines, read_shard_manifest
from comad.data.pool import run_tasks
from comad.data.shards import CLASSES, Progress, TarShards, read_classes, scan_shard, shard_files
from comad.data.storage import ImageFiles, open_storage

IMAGES_PER_SHARD = 5000
# Header, padding and the label's own two blocks.
OVERHEAD = 2048
# Images that are tried to estimate the size of all, and what is added to the estimate.
TRIED, RESERVE = 48, 1.1
MOVE = 'remove it or choose another --out'
ORIGINAL = {'images': 'original bytes'}
SHORT_SIDE = 256
QUALITY = 90
# 4:2:0, which most of ImageNet's files have: it decodes fastest.
SUBSAMPLING = '4:2:0'


@dataclass(frozen=True)
class Reencoding:
    """How images are made smaller.

    Args:
        short_side: in pixels, at most.
        quality: of the JPEG, 1 to 95.

    Raises:
        ValueError: a value out of range.
    """

    short_side: int = SHORT_SIDE
    quality: int = QUALITY

    def __post_init__(self) -> None:
        if self.short_side < 32:
            raise ValueError(f'short_side={self.short_side}: expected 32 px or more')
        if not 1 <= self.quality <= 95:
            raise ValueError(f'quality={self.quality}: expected 1 to 95')

    def settings(self) -> dict[str, Any]:
        """Everything that decides the pixels, for the manifest."""
        return {
            **asdict(self),
            'images': 're-encoded',
            'format': f'JPEG, {SUBSAMPLING}, baseline, optimised Huffman tables',
            'resampling': 'Pillow bicubic with antialias',
        }

    def libraries(self) -> dict[str, str]:
        """Versions of what decodes, resizes and encodes; others may give other bytes."""
        turbo = features.version('libjpeg_turbo')
        return {'pillow': PIL.__version__, 'libjpeg-turbo': turbo or 'none'}

    def __call__(self, data: bytes, place: str | Path) -> bytes:
        """The file to pack, the same bytes each time: a smaller one, or ``data`` as they are.

        Args:
            data: of the image file.
            place: name for the error message.

        Raises:
            OSError: it cannot be read as an image.
        """
        try:
            image = decode_pillow(data)
        except DECODE_ERRORS as error:
            raise unreadable(place, error) from error
        short = min(image.size)
        if short <= self.short_side:
            return data
        # The long side is cut to whole pixels as torchvision's Resize does it.
        edges = tuple(self.short_side * edge // short for edge in image.size)
        file = io.BytesIO()
        image.resize(edges, Image.Resampling.BICUBIC).save(
            file, 'JPEG', quality=self.quality, subsampling=SUBSAMPLING, optimize=True
        )
        return file.getvalue()


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
    storage: ImageFiles,
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


def _items(storage: ImageFiles) -> Iterator[Item]:
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
    ``out/split/shards.json`` holds the settings and a digest of every shard. ``progress`` is called
    with images done and in all, ``report`` with a line on shards that are kept; without a
    ``reencoding`` the original bytes are packed. Returns the number of shards written.

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


def write_shard(shard: Shard) -> tuple[str, dict[str, Any]]:
    """Write one shard, the same bytes each time; returns its name and entry in the manifest."""
    with (
        atomic_file(shard.path) as file,
        tarfile.open(
            fileobj=file, mode='w', format=tarfile.GNU_FORMAT, errors='surrogateescape'
        ) as tar,
    ):
        for item in shard.items:
            _add(tar, item.member, _packed(item, shard.reencoding))
            _add(tar, f'{item.member.rpartition(".")[0]}.cls', str(item.label).encode())
    return shard.path.name, _entry(shard)


def _entry(shard: Shard) -> dict[str, Any]:
    return dict(
        images=len(shard.items),
        bytes=shard.path.stat().st_size,
        sha256=sha256_of(shard.path),
        source=shard.source(),
    )


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
    sized = shard.reencoding is None  # of smaller images only names and labels are known
    planned, found = (
        [(item.member, item.label, sized and item.size) for item in items]
        for items in (shard.items, scan_shard(shard.path) if entry is None else ())
    )
    if entry is not None or planned != found:
        raise FileExistsError(f'{shard.path}: holds other images than this run would write; {MOVE}')
    manifest.shards[shard.path.name] = _entry(shard)
    return True


def _write_classes(out: Path, classes: tuple[str, ...]) -> None:
    path = out / CLASSES
    if path.exists():
        if read_classes(out) != classes:
            raise FileExistsError(f'{path}: names other classes than the folders do; {MOVE}')
        return
    write_text(path, ''.join(f'{name}\n' for name in classes))


def check_same(
    folder: Path, name: str, found: Mapping[str, Any], wanted: Mapping[str, Any]
) -> None:
    """Compare settings with those of the shards that are there.

    Raises:
        FileExistsError: the first that differs, both values named.
    """
    for key in sorted({*found, *wanted}):
        if found.get(key) != wanted.get(key):
            raise FileExistsError(
                f'{folder / SHARDS}: {name} {key}={found.get(key)!r}, this run has '
                f'{key}={wanted.get(key)!r}; use the same or choose another --out'
            )
