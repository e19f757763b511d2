"""Image files below a folder, searched once: their paths and sizes, and a digest of both."""

import hashlib
import os
import time
from collections import deque
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from comad.data.decode import is_image_name
from comad.data.index import Columns, kept_index
from comad.data.manifest import MANIFEST, PROBLEMS, digest_lines

# Seen from the home, where commands work; a folder of data may be read-only.
INDICES = Path('work_dirs/data_index')
# Fewer are found again in less time than it takes to keep them.
KEPT_FROM = 20_000
# Two changes of a folder within a tick of its file system's clock look like one.
TICK = 100_000_000  # ns
SKIPPED = ('__MACOSX',)
# Read beside images: what says something of them, or holds them.
TABLES = ('.csv', '.json', '.tar', '.txt')
# Images that are not read: better told than left out in silence.
OTHER_IMAGES = (
    *('.arw', '.avif', '.cr2', '.dcm', '.dng', '.exr', '.gif', '.heic', '.heif', '.jp2', '.jxl'),
    *('.nef', '.npy', '.pgm', '.ppm', '.svg', '.tga'),
)


@dataclass(frozen=True)
class FileIndex:
    """Files below ``root``, hidden ones left out, sorted by path.

    Args:
        root: the folder.
        paths: (N,) of image files, as bytes and relative to ``root``.
        tables: (T,) of annotations, lists and shards, the same.
        digest: sha256 over names and sizes of all these, as `digest_lines` makes it.
        folders: (F,) that were searched, ``root`` as b''.
        others: (O,) first few of files whose suffix says that they are images of another format.
    """

    root: Path
    paths: np.ndarray
    tables: np.ndarray
    digest: str
    folders: np.ndarray
    others: np.ndarray

    @cached_property
    def table_names(self) -> list[str]:
        """Paths of ``tables`` as texts."""
        return [os.fsdecode(path) for path in self.tables.tolist()]

    def below(self, folder: bytes) -> np.ndarray:
        """Paths of the images in a folder, relative to ``root``, and in those below it."""
        # '0' is the byte after '/'.
        first, last = np.searchsorted(self.paths, np.array([folder + b'/', folder + b'0']))
        return self.paths[first:last]


def index_files(root: str | Path, fresh: bool = False) -> FileIndex:
    """The files below a folder, links followed; big folders are searched again only if they change.

    A file that was overwritten in its place is not noticed by that; ``fresh`` searches anew.

    Raises:
        OSError: the folder cannot be read.
    """
    root = Path(root)
    name = hashlib.sha256(os.fsencode(root.absolute())).hexdigest()[:16]
    columns = kept_index(
        INDICES / f'{name}.npz',
        lambda columns: not fresh and _is_unchanged(root, columns),
        lambda: _search(root),
        lambda columns: len(columns['paths']) >= KEPT_FROM and columns['settled'].all(),
    )
    found = {key: columns[key] for key in ('paths', 'tables', 'folders', 'others')}
    return FileIndex(root, digest=str(columns['digest']), **found)


def _is_unchanged(root: Path, columns: Columns) -> bool:
    base = os.fsencode(root)
    folders = columns['folders'].tolist()
    stamps = [os.stat(os.path.join(base, folder)).st_mtime_ns for folder in folders]
    return np.array_equal(columns['stamps'], stamps)


def _search(root: Path) -> Columns:
    started = time.time_ns()
    images: list[tuple[bytes, int]] = []
    tables: list[tuple[bytes, int]] = []
    folders, stamps, others = [], [], []
    waiting, seen = deque([b'']), set()
    base = os.fsencode(root)
    while waiting:
        folder = waiting.popleft()
        path = os.path.join(base, folder)
        stat = os.stat(path)
        if (stat.st_dev, stat.st_ino) in seen:  # a link that leads back
            continue
        seen.add((stat.st_dev, stat.st_ino))
        folders.append(folder)
        stamps.append(stat.st_mtime_ns)
        with os.scandir(path) as entries:
            for entry in entries:
                name = os.fsdecode(entry.name)
                place = os.path.join(folder, entry.name)
                if name.startswith('.') or name in SKIPPED:
                    continue
                if _is_folder(entry):
                    waiting.append(place)
                elif is_image_name(name):
                    images.append((place, _size(entry)))
                elif name.lower().endswith(TABLES) and name not in (MANIFEST, PROBLEMS):
                    tables.append((place, _size(entry)))
                elif name.lower().endswith(OTHER_IMAGES) and len(others) < 3:
                    others.append(place)
    images.sort()
    tables.sort()
    lines = ((os.fsdecode(place), size, None) for place, size in (*images, *tables))
    return {
        'paths': np.array([place for place, _ in images], dtype=bytes),
        'tables': np.array([place for place, _ in tables], dtype=bytes),
        'others': np.array(sorted(others), dtype=bytes),
        'digest': np.array(digest_lines(lines)),
        'folders': np.array(folders, dtype=bytes),
        'stamps': np.array(stamps, dtype=np.int64),
        'settled': np.array(stamps, dtype=np.int64) < started - TICK,
    }


def _is_folder(entry: os.DirEntry) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link that leads to itself
        return False


def _size(entry: os.DirEntry) -> int:
    try:
        return entry.stat().st_size
    except OSError:  # a broken link: the reader names it
        return 0
