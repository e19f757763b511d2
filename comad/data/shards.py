"""Storage in tar shards of WebDataset's layout, read at random places.

``root/<split>/*.tar`` hold samples ``<key>.<jpg|png|webp|...>`` with ``<key>.cls``, the label as
decimal text; ``root/classes.txt`` names the classes, one per line in the order of labels. Shards of
others may lack both where no labels are asked for. What lies where is scanned once and kept in
``index.npz`` beside the shards.
"""

import copy
import logging
import os
import tarfile
from collections import OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields, replace
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

import numpy as np

from comad.data.decode import IMAGE_SUFFIXES, first_line
from comad.data.index import Columns, kept_index
from comad.data.manifest import describe_images

CLASSES = 'classes.txt'
INDEX = 'index.npz'
MAX_LABEL_BYTES = 32
MAX_OPEN = 256  # of one process; the usual limit is 1,024
IMAGES = tuple(suffix[1:] for suffix in IMAGE_SUFFIXES)
Progress = Callable[[int, int], None]
logger = logging.getLogger(__name__)


class TarShards:
    """Images of the shards in ``folder``, in the order that class folders would give them.

    Args:
        folder: of the split; ``classes.txt`` lies beside it.
        progress: called with shards done and in all, if the shards must be scanned.
        labelled: False reads images alone: all have the label 0 of no class.

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

    def __init__(
        self, folder: str | Path, progress: Progress | None = None, labelled: bool = True
    ) -> None:
        self.folder = Path(folder)
        self.classes = read_classes(self.folder.parent) if labelled else ()
        self.images = describe_images(self.folder)
        self.index = load_index(self.folder, len(self.classes) if labelled else None, progress)
        self.labels = self.index.labels if labelled else np.zeros_like(self.index.labels)
        members = self.index.members.tolist()
        self.names = np.array([name.rpartition(b'/')[2] for name in members], dtype=bytes)
        empty = np.flatnonzero(np.bincount(self.labels, minlength=len(self.classes)) == 0)
        empty = empty if labelled else np.array(())
        if empty.size:
            name = self.classes[empty[0]]
            raise ValueError(f'{self.folder}: the shards hold no image of class {name}')
        self._open: OrderedDict[int, int] = OrderedDict()
        self._owner = os.getpid()

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, positions: np.ndarray) -> 'TarShards':
        """The images at these positions alone."""
        part = copy.copy(self)
        part._open = OrderedDict()
        part.labels, part.names = self.labels[positions], self.names[positions]
        of_image = ('members', 'shards', 'offsets', 'sizes', 'labels')
        part.index = replace(
            self.index, **{name: getattr(self.index, name)[positions] for name in of_image}
        )
        return part

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
    classes = tuple(read_lines(path))
    if not classes:
        raise ValueError(f'{path}: no classes; expected one per line')
    if len(set(classes)) < len(classes):
        twice = next(name for name in classes if classes.count(name) > 1)
        raise ValueError(f'{path}: the class {twice} is named twice')
    return classes


def read_lines(path: Path) -> list[str]:
    """Lines of a text file that are not empty, blanks around them and a byte order mark taken off.

    Raises:
        OSError: it cannot be read.
        ValueError: it is not in UTF-8.
    """
    try:
        text = path.read_text(encoding='utf-8-sig')
    except UnicodeDecodeError as error:
        raise ValueError(f'{path}: not a text in UTF-8 ({error})') from None
    if '\0' in text:
        raise ValueError(f'{path}: not a text, it holds zero bytes')
    return [stripped for line in text.splitlines() if (stripped := line.strip())]


class Sample(NamedTuple):
    """An image in a tar: its member name, place and label."""

    member: str
    offset: int
    size: int
    label: int


@dataclass(frozen=True)
class ShardIndex:
    """Place of every image, sorted by label, file name and member name.

    Args:
        files: (S, ) names of the shards.
        stamps: (S, 2) size in bytes and modification time in ns of each.
        members: (N,) member names as bytes.
        shards, offsets, sizes, labels: (N,) int64.
    """

    files: np.ndarray
    stamps: np.ndarray
    members: np.ndarray
    shards: np.ndarray
    offsets: np.ndarray
    sizes: np.ndarray
    labels: np.ndarray


def load_index(folder: Path, classes: int | None, progress: Progress | None = None) -> ShardIndex:
    """The index of the shards in ``folder``; scans them where it is absent or older than they.

    Args:
        folder: with ``*.tar``.
        classes: number of classes; None where labels do not matter.
        progress: called with shards done and shards in all; without it, a line is logged.

    Raises:
        ValueError: see `scan_shard`; a key that two shards share; a label out of range.
    """
    files = shard_files(folder)

    def is_true(columns: Columns) -> bool:
        index = ShardIndex(**columns)
        same = index.files.tolist() == [path.name for path in files]
        if classes is not None and (index.labels < 0).any():
            return False  # scanned again, as only that tells what is missing
        return same and np.array_equal(index.stamps, _stamps(files))

    def build() -> Columns:
        if progress is None:
            # Minutes for ImageNet, longer on a network disk: not in silence.
            logger.warning('%s: scanning %d shards, once', folder, len(files))
        built = build_index(folder, progress, classes is not None)
        return {entry.name: getattr(built, entry.name) for entry in fields(ShardIndex)}

    index = ShardIndex(**kept_index(folder / INDEX, is_true, build))
    outside = np.flatnonzero(index.labels >= (np.inf if classes is None else classes))
    if outside.size:
        first = outside[0]
        raise ValueError(
            f'{folder / str(index.files[index.shards[first]])}: member '
            f'{os.fsdecode(bytes(index.members[first]))} has the label {index.labels[first]}, '
            f'but classes.txt holds {classes} classes'
        )
    return index


def shard_files(folder: Path) -> list[Path]:
    """Sorted ``*.tar`` of a folder, hidden ones left out."""
    return sorted(path for path in folder.glob('*.tar') if not path.name.startswith('.'))


def build_index(
    folder: Path, progress: Progress | None = None, labelled: bool = True
) -> ShardIndex:
    """Scan the headers of all shards; see `load_index`."""
    files = shard_files(folder)
    stamps = _stamps(files)
    samples: list[tuple[int, str, str, Sample]] = []
    owners: dict[str, int] = {}
    for number, path in enumerate(files):
        for sample in scan_shard(path, labelled):
            key, name = _key(sample.member)[0], sample.member.rpartition('/')[2]
            if (owner := owners.setdefault(key, number)) != number:
                raise ValueError(
                    f'{path}: duplicate key: member {sample.member} is also in {files[owner].name}'
                )
            samples.append((sample.label, name, sample.member, number, sample))
        if progress:
            progress(number + 1, len(files))
    samples.sort(key=lambda entry: entry[:3])

    def column(name: str) -> np.ndarray:
        return np.array([getattr(entry[4], name) for entry in samples], dtype=np.int64)

    return ShardIndex(
        files=np.array([path.name for path in files]),
        stamps=stamps,
        members=np.array([os.fsencode(entry[2]) for entry in samples], dtype=bytes),
        shards=np.array([entry[3] for entry in samples], dtype=np.int64),
        offsets=column('offset'),
        sizes=column('size'),
        labels=column('label'),
    )


def scan_shard(path: Path, labelled: bool = True) -> list[Sample]:
    """Samples of one uncompressed tar: an image ``<key>.jpg`` or the like and ``<key>.cls`` each.

    As in WebDataset a key ends at the first dot of the file name; members with other extensions
    are ignored, folders and hidden files too. Where they need not be ``labelled`` a missing label
    is -1, and a sample without an image, as of a failed download, is left out.

    Raises:
        ValueError: not an uncompressed tar; cut off; a name that leaves the folder; a link; a
            duplicate key; an image without label or the reverse; a label that is no number.
    """
    images: dict[str, Sample] = {}
    labels: dict[str, int] = {}
    first: dict[str, str] = {}
    with path.open('rb') as file:
        for member in _members(path, file):
            key, extension = _key(member.name)
            if not key:
                continue
            first.setdefault(key, member.name)
            if extension in IMAGES:
                if key in images:
                    raise ValueError(f'{path}: duplicate key: member {member.name} is there twice')
                images[key] = Sample(member.name, member.offset_data, member.size, -1)
            elif extension == 'cls' and labelled:
                if key in labels:
                    raise ValueError(f'{path}: duplicate key: member {member.name} is there twice')
                labels[key] = _read_label(path, file.fileno(), member)
    for key, name in first.items() if labelled else ():
        if key not in images:
            raise ValueError(f'{path}: member {name} has no image {key}.{"|".join(IMAGES)}')
        if key not in labels:
            raise ValueError(f'{path}: member {images[key].member} has no label {key}.cls')
    if not images:
        needed = ' and <key>.cls' if labelled else ''
        raise ValueError(f'{path}: the tar holds no samples <key>.jpg{needed}')
    return [sample._replace(label=labels.get(key, -1)) for key, sample in images.items()]


def _members(path: Path, file) -> Iterator[tarfile.TarInfo]:
    """Plain files of a tar whose data are whole; names without a leading './'."""
    total = os.fstat(file.fileno()).st_size
    name = 'none'
    try:
        with tarfile.open(fileobj=file, mode='r:') as tar:
            for member in tar:
                name = member.name = member.name.removeprefix('./')
                if name.startswith('/') or '..' in PurePosixPath(name).parts:
                    raise ValueError(f'{path}: member {name} points outside of the shard')
                if member.isdir():
                    continue
                if not member.isreg() or member.issparse():
                    raise ValueError(f'{path}: member {name} is no plain file (a link or device)')
                if member.offset_data + member.size > total:
                    raise ValueError(f'{path}: the tar is cut off within member {name}')
                yield member
            # tarfile takes a damaged header for the end.
            file.seek(tar.offset)
            block = file.read(512)
    except tarfile.TarError as error:
        if name == 'none':
            raise ValueError(f'{path}: not an uncompressed tar ({first_line(error)})') from error
        raise ValueError(f'{path}: the tar is cut off or damaged behind member {name}') from error
    if block != bytes(512):
        raise ValueError(f'{path}: the tar is cut off or damaged behind member {name}')


def _key(name: str) -> tuple[str, str]:
    """Key and lower-case extension of a member; an empty key for hidden files."""
    folder, slash, base = name.rpartition('/')
    stem, _, extension = base.partition('.')
    return (folder + slash + stem if stem else ''), extension.lower()


def _read_label(path: Path, descriptor: int, member: tarfile.TarInfo) -> int:
    data = os.pread(descriptor, min(member.size, MAX_LABEL_BYTES), member.offset_data)
    text = data.decode('ascii', errors='replace').strip()
    if not text.isdecimal() or member.size > MAX_LABEL_BYTES:
        raise ValueError(f'{path}: member {member.name} holds {text!r}, not a label like 17')
    return int(text)


def _stamps(files: list[Path]) -> np.ndarray:
    stats = [path.stat() for path in files]
    stamps = [(stat.st_size, stat.st_mtime_ns) for stat in stats]
    return np.array(stamps, dtype=np.int64).reshape(-1, 2)
