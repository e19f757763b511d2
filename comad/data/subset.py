"""Parts of a data set: some of its classes, and few labels of each."""

import hashlib
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from comad.data.shards import read_lines
from comad.data.storage import Storage


LISTS = Path(__file__).with_name('classes')


def check_subset(subset: Mapping[str, Any]) -> None:
    """Look at the options alone, before images are listed.

    Raises:
        ValueError: unknown or missing options, a share or seed out of range.
    """
    options = dict(subset)
    if set(options) == {'list'}:
        return
    if 'share' not in options or not set(options) <= {'share', 'seed'}:
        raise ValueError(f'subset={options}: expected dict(share=, seed=) or dict(list=)')
    share, seed = options['share'], options.get('seed', 0)
    if isinstance(share, bool) or not isinstance(share, (int, float)) or not 0 < share <= 1:
        raise ValueError(f'subset.share={share!r}: expected a share above 0 and up to 1')
    if isinstance(seed, bool) or not isinstance(seed, int) or seed < 0:
        raise ValueError(f'subset.seed={seed!r}: expected 0 or more')


def select_subset(storage: Storage, subset: Mapping[str, Any]) -> np.ndarray:
    """Positions of the images that belong to a subset, (n,) int64, ascending.

    Args:
        storage: all images of the split.
        subset: ``dict(share=0.01, seed=0)`` draws that share of every class, rounded, at least one
            image; ``dict(list='1percent.txt')`` takes the files that the text file names, one per
            line, as SimCLR's lists do (``n01440764_10026.JPEG``).

    Raises:
        OSError: the list cannot be read.
        ValueError: see `check_subset`; names that are unknown, ambiguous or listed twice.
    """
    check_subset(subset)
    if 'list' in subset:
        return _listed(storage, Path(subset['list']))
    return draw_share(storage, subset['share'], subset.get('seed', 0))


def read_classes_of(name: str) -> list[str]:
    """The classes of a list: one that comes with the suite, such as ``imagenet-100``, or a file.

    Raises:
        ValueError: neither, or a file without names or with one twice.
    """
    path = LISTS / f'{name}.txt'
    if not path.is_file():
        path = Path(name)
    if not path.is_file():
        known = ', '.join(sorted(found.stem for found in LISTS.glob('*.txt')))
        raise ValueError(f'classes={name!r}: neither a file nor one of {known}')
    names = read_lines(path)
    if not names or len(set(names)) < len(names):
        raise ValueError(f'{path}: expected names of class folders, one per line, each once')
    return sorted(names)


def keep_classes(storage: Storage, name: str) -> Storage:
    """Images of the classes of a list alone, whose labels are numbered anew in sorted order.

    Raises:
        ValueError: see `read_classes_of`; a class that the data have not.
    """
    names = read_classes_of(name)
    if missing := sorted(set(names) - set(storage.classes)):
        raise ValueError(f'classes={name!r}: {storage.folder} has no class {missing[0]}')
    old = np.array([storage.classes.index(wanted) for wanted in names])
    part = storage.take(np.flatnonzero(np.isin(storage.labels, old)))
    part.labels, part.classes = np.searchsorted(old, part.labels), tuple(names)
    return part


def draw_share(storage: Storage, share: float, seed: int) -> np.ndarray:
    """Positions of that share of every class, rounded, at least one image of each, ascending.

    Those whose hash comes first: free of any generator's state, version and of the order.
    """
    chosen: list[int] = []
    # The images of a class are neighbours.
    bounds = np.searchsorted(storage.labels, np.arange(len(storage.classes) + 1)).tolist()
    for label, name in enumerate(storage.classes):
        prefix = f'{seed}/{name}/'.encode()
        ranks = {
            index: hashlib.sha256(prefix + bytes(storage.names[index])).digest()
            for index in range(bounds[label], bounds[label + 1])
        }
        count = max(1, int(share * len(ranks) + 0.5))
        chosen += sorted(ranks, key=ranks.__getitem__)[:count]
    return np.sort(np.array(chosen))


def keep_split(names: Sequence[str], own: Mapping[str, Any] | None) -> set[str]:
    """Those of the names that belong to a split that is drawn; all where none is.

    Args:
        names: of all images.
        own: ``dict(split='val', holdout=0.2, seed=0)``: the share whose hash comes first is 'val'.
    """
    if not own or own.get('holdout') is None:
        return set(names)

    def rank(name: str) -> bytes:
        return hashlib.sha256(os.fsencode(f'{own["seed"]}/{name}')).digest()

    count = max(1, int(own['holdout'] * len(names) + 0.5))
    held = set(sorted(names, key=rank)[:count])
    return held if own['split'] == 'val' else set(names) - held


def _listed(storage: Storage, path: Path) -> np.ndarray:
    wanted = [os.fsencode(name) for name in read_lines(path)]
    if not wanted:
        raise ValueError(f'{path}: no file names; expected one per line')
    order = np.argsort(storage.names, kind='stable')
    names = storage.names[order]
    query = np.array(wanted, dtype=bytes)
    left = np.searchsorted(names, query, 'left')
    counts = np.searchsorted(names, query, 'right') - left
    for reason, bad in (
        (f'not in {storage.folder}', counts == 0),
        (f'in more than one class of {storage.folder}', counts > 1),
    ):
        if bad.any():
            first = os.fsdecode(wanted[int(np.argmax(bad))])
            raise ValueError(
                f'{path}: {bad.sum():,} of {len(wanted):,} names are {reason}; {first}'
            )
    chosen = np.sort(order[left])
    if (twice := np.flatnonzero(np.diff(chosen) == 0)).size:
        name = os.fsdecode(bytes(storage.names[chosen[twice[0]]]))
        raise ValueError(f'{path}: {name} is listed twice')
    return chosen
