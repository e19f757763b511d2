"""What lies where in big data, kept as arrays, so that a second start need not look again."""

import fcntl
import logging
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np

from backbones.files import atomic_file

FORMAT = 1
Columns = dict[str, np.ndarray]
logger = logging.getLogger(__name__)


def kept_index(
    place: Path,
    is_true: Callable[[Columns], bool],
    build: Callable[[], Columns],
    is_worth: Callable[[Columns], bool] = lambda columns: True,
) -> Columns:
    """The columns in ``place``, or new ones where they are absent or no longer true.

    One of several processes builds, the others wait. Where nothing can be written every start
    builds, with a warning.

    Args:
        place: the file, ``*.npz``.
        is_true: whether stored columns still describe the data.
        build: makes them.
        is_worth: whether new ones are to be kept.
    """
    if (columns := _read(place, is_true)) is not None:
        return columns
    with _locked(place.parent):
        if (columns := _read(place, is_true)) is None:
            columns = build()
            if is_worth(columns):
                _write(place, columns)
    return columns


def _read(place: Path, is_true: Callable[[Columns], bool]) -> Columns | None:
    try:
        with np.load(place, allow_pickle=False) as stored:
            if int(stored['format']) != FORMAT:
                return None
            columns = {name: stored[name] for name in stored.files if name != 'format'}
            return columns if is_true(columns) else None
    except (OSError, ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile):
        return None


def _write(place: Path, columns: Columns) -> None:
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        with atomic_file(place) as file:
            np.savez(file, format=np.int64(FORMAT), **columns)
    except OSError as error:
        logger.warning('%s: the index cannot be kept, so every start scans (%s)', place, error)


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Wait for another process that builds the same index, where the folder can be written."""
    try:
        file = (folder / '.index.lock').open('w')
    except OSError:
        yield
        return
    with file:
        with suppress(OSError):
            fcntl.flock(file, fcntl.LOCK_EX)
        yield
