"""Reading and decoding files in several processes."""

import hashlib
import io
import os
import warnings
from collections.abc import Callable, Iterator

import numpy as np
from PIL import Image

from comad.data.check.findings import File, Inspected
from comad.data.images import DECODE_ERRORS, first_line
from comad.data.pool import run_tasks

AT_ONCE = 32
LABEL_MODES = ('L', 'P')


def inspect_files(
    files: list[File],
    workers: int,
    quick: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> Iterator[Inspected]:
    """What is known of each file, in any order.

    Args:
        files: to look at.
        workers: processes that read and decode.
        quick: only sizes in bytes.
        progress: called with files done and files in all.
    """
    function = _measure if quick else _inspect_all
    tasks = [files[start : start + AT_ONCE] for start in range(0, len(files), AT_ONCE)]
    done = 0
    for results in run_tasks(function, tasks, 1 if quick else workers):
        yield from results
        done += len(results)
        if progress:
            progress(done, len(files))


def inspect(file: File) -> Inspected:
    """Hash and decode one file."""
    try:
        data = _read(file)
    except OSError as error:
        return Inspected(file, 0, error=f'cannot be read ({error.strerror or error})')
    known = Inspected(file, len(data), hashlib.sha256(data).hexdigest())
    if file.size is not None and len(data) != file.size:
        return known._replace(error=f'cut off ({len(data)} of {file.size} bytes)')
    if file.kind == 'other':
        return known
    try:
        with warnings.catch_warnings(), Image.open(io.BytesIO(data)) as image:
            # Remarks on EXIF data and the like.
            warnings.simplefilter('ignore')
            image.load()
            known = known._replace(edges=image.size)
            if file.kind == 'labels':
                if image.mode not in LABEL_MODES:
                    return known._replace(error=f'mode {image.mode}, not 8-bit class indices')
                values = np.asarray(image)
                known = known._replace(values=(int(values.min()), int(values.max())))
    except DECODE_ERRORS as error:
        return known._replace(error=f'cannot be read as an image ({first_line(error)})')
    return known


def _inspect_all(files: list[File]) -> list[Inspected]:
    return [inspect(file) for file in files]


def _measure(files: list[File]) -> list[Inspected]:
    results = []
    for file in files:
        try:
            size = os.stat(file.path).st_size if file.size is None else file.size
            results.append(Inspected(file, size, error=None if size else 'an empty file'))
        except OSError as error:
            results.append(Inspected(file, 0, error=f'cannot be read ({error.strerror})'))
    return results


def _read(file: File) -> bytes:
    with open(file.path, 'rb') as stream:
        stream.seek(file.offset)
        return stream.read() if file.size is None else stream.read(file.size)
