"""Anyone's own images: a folder searched recursively, a list of paths, a CSV with labels, shards.

What is read has a name, that of the folder or file, and a digest over names and sizes; where
`tools/data.py check` has looked at all of it, that check's digest over the contents.
"""

import hashlib
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from backbones.files import sha256_of
from comad.data.decode import IMAGE_SUFFIXES
from comad.data.files import INDICES, KEPT_FROM, FileIndex, index_files
from comad.data.image_tables import CSVS, LISTS, SPLITS, read_tables
from comad.data.index import kept_index
from comad.data.manifest import MANIFEST, QUICK, digest_lines, read_manifest
from comad.data.shards import CLASSES, TarShards, read_classes, read_lines, shard_files
from comad.data.storage import OTHER_SPLIT, ImageFiles, Storage, open_storage
from comad.data.subset import draw_share

LAYOUTS = (
    'class folders (DIR/<class>/*, or DIR/train/<class>/* and DIR/val/<class>/*) or a CSV with the '
    'columns path,label'
)
SHOWN = 8  # names in a line
# What is held out where the data have no validation split: our choice.
HOLDOUT = {'holdout': 0.2, 'seed': 0}


class Listed(NamedTuple):
    """Images of one split: (N,) paths and labels; labels are None where none are asked for."""

    paths: np.ndarray
    labels: np.ndarray | None


class SplitError(ValueError):
    """Class folders of train that those of val contradict: labels, but none that can be used."""


@dataclass(frozen=True)
class OwnImages:
    """What a path of one's own holds.

    Args:
        source: the folder or file.
        digest: over names and sizes.
        splits: ``train``, and ``val`` where there is one.
        classes: names in the order of labels; none without labels.
        shards: folder of tar shards of others, which then are all that is read.
    """

    source: Path
    digest: str
    splits: Mapping[str, Listed]
    classes: Sequence[str] = ()
    shards: Path | None = None

    @property
    def root(self) -> Path:
        """What paths are relative to."""
        return self.source if self.source.is_dir() else self.source.parent


def open_own(
    source: str | Path,
    split: str = 'train',
    labels: bool = False,
    holdout: float | None = None,
    seed: int = 0,
) -> Storage:
    """The images of a split.

    Args:
        source: a folder, a list of paths (.txt) or a CSV.
        split: 'train' or 'val'.
        labels: whether they are read.
        holdout: share of every class that is the split 'val', drawn by ``seed``; None where the
            data have one.

    Raises:
        OSError: it cannot be read.
        ValueError: see `read_own`; a class of a single image, of which none can be held out.
    """
    own = read_own(source, labels)
    if own.shards is not None:
        return open_storage(source, split) if labels else TarShards(own.shards, labelled=False)
    if split not in own.splits and holdout is None:
        raise ValueError(f'{source}: has no split {split!r}, only {", ".join(own.splits)}')
    listed = own.splits[split if holdout is None else 'train']
    storage = ImageFiles(own.root, *listed, own.classes)
    if holdout is None:
        return storage
    held = draw_share(storage, holdout, seed)
    alone = np.bincount(storage.labels, minlength=len(own.classes)) < 2
    if alone.any():
        name = own.classes[int(np.argmax(alone))]
        raise ValueError(
            f'{source}: the class {name} has a single image, so none can be held out for '
            'validation: two or more are needed, or a split of your own (train and val)'
        )
    rest = np.setdiff1d(np.arange(len(storage)), held)
    return storage.take(held if split == 'val' else rest)


def own_name(source: str | Path) -> str:
    """Name of the data set: that of the folder or file."""
    path = Path(source).absolute()
    return path.name if path.is_dir() else path.stem


def cite_own(source: str | Path) -> tuple[str, int | None]:
    """What records cite: the digest, and the number of problems that a check has found.

    Without a check of just these files it ends in '(names and sizes only)', as for a file always: a
    check is of a folder.
    """
    path = Path(source)
    if not path.is_dir():
        listed = path.suffix.lower() in LISTS + CSVS
        digest = _of_tables(path, False).digest if listed else sha256_of(path)
        return digest + QUICK, None
    digest = index_files(path).digest
    checked = read_manifest(path / MANIFEST)
    if checked is None or checked.get('names_digest') != digest:
        return digest + QUICK, None
    full = checked['digest'] + ('' if checked.get('content_hashed') else QUICK)
    return full, checked.get('problems')


def check_names(path: Path, names: Sequence[str]) -> None:
    """Stop at names of classes that only capitals or blanks tell apart.

    Raises:
        ValueError: naming two of them.
    """
    plain: dict[str, str] = {}
    for name in names:
        other = plain.setdefault(' '.join(name.split()).casefold(), name)
        if other != name:
            raise ValueError(
                f'{path}: the classes {other!r} and {name!r} overlap: they differ by capitals or '
                'blanks alone; give them one name, or names that differ'
            )


def read_own(source: str | Path, labels: bool) -> OwnImages:
    """What a path holds.

    Raises:
        FileNotFoundError: there is nothing.
        ValueError: no images; labels are wanted, and there are none or they contradict each other.
    """
    path = Path(source)
    if path.is_dir():
        return _of_folder(path, labels)
    if not path.is_file():
        raise FileNotFoundError(f'{path}: no such folder or file; expected a folder of images')
    suffix = path.suffix.lower()
    if suffix not in LISTS + CSVS:
        raise ValueError(f'{path}: expected a folder, a list of paths (.txt) or a CSV path,label')
    if labels and suffix in LISTS:
        raise ValueError(f'{path}: a list of paths has no labels; expected a CSV path,label')
    return _of_tables(path, labels)


def _of_folder(path: Path, labels: bool) -> OwnImages:
    index = index_files(path)
    if not len(index.paths) and any(name.endswith('.tar') for name in index.table_names):
        return _of_shards(path, index, labels)
    if labels and (tables := _tables_of(path, index)):
        return _of_tables(path, True, tables, index.digest)
    if not len(index.paths):
        other = index.others[:1].tolist()
        found = f'; {os.fsdecode(other[0])} is of another format' if other else ''
        raise ValueError(
            f'{path}: no images in it or in folders below; read are {", ".join(IMAGE_SUFFIXES)}'
            f'{found}'
        )
    folders = {folder.split(b'/')[0] for folder in index.folders.tolist()} - {b''}
    top = {os.fsdecode(name) for name in folders if len(index.below(name))}
    in_splits = 'train' in map(SPLITS.get, top) and top <= SPLITS.keys()
    if not labels:
        keep = index.paths
        if in_splits:
            parts = [index.below(os.fsencode(n)) for n in sorted(top) if SPLITS[n] == 'train']
            keep = np.concatenate(parts)
        return OwnImages(path, index.digest, {'train': Listed(keep, None)})
    if not in_splits:
        classes, listed = _by_class(path, index, '')
        return OwnImages(path, index.digest, {'train': listed}, classes)
    places: dict[str, str] = {}
    for name in sorted(top, key=lambda name: (SPLITS[name], name)):
        if SPLITS[name] in places:
            raise SplitError(f'{path}: {name} is a second {SPLITS[name]} split; leave one')
        if SPLITS[name] != 'test':
            places[SPLITS[name]] = f'{name}/'
    return OwnImages(path, index.digest, *_by_split(path, index, places))


def _by_split(
    path: Path, index: FileIndex, places: Mapping[str, str]
) -> tuple[dict[str, Listed], list[str]]:
    """The images of every split, by its folder, and the classes that all of them have."""
    held = {
        split: {name for name, images in _class_folders(index, place).items() if len(images)}
        for split, place in places.items()
    }
    shared = set.intersection(*held.values())
    told = [
        f'{_some(names - shared)} in {split} alone'
        for split, names in held.items()
        if names - shared
    ]
    if told and not len(_loose(index, places['train'])):
        raise SplitError(f'{path}: classes {"; ".join(told)}; every class needs images in both')
    classes, splits = [], {}
    for split, place in places.items():
        try:
            classes, splits[split] = _by_class(path, index, place)
        except ValueError as error:
            # Without classes in train these are photos.
            raise (SplitError if splits else ValueError)(str(error)) from None
    return splits, classes


def _some(names: Iterable[str]) -> str:
    """The first names, and the number of the others."""
    names = sorted(names)
    more = f' and {len(names) - SHOWN:,} more' if len(names) > SHOWN else ''
    return ', '.join(names[:SHOWN]) + more


def _class_folders(index: FileIndex, prefix: str) -> dict[str, np.ndarray]:
    """Images in or below each folder that lies directly below ``prefix``, also of empty ones."""
    start = os.fsencode(prefix)
    below = [folder[len(start) :] for folder in index.folders.tolist() if folder.startswith(start)]
    names = sorted(os.fsdecode(folder) for folder in below if folder and b'/' not in folder)
    return {name: index.below(start + os.fsencode(name)) for name in names}


def _loose(index: FileIndex, prefix: str) -> np.ndarray:
    """Images that lie in ``prefix`` itself."""
    start = os.fsencode(prefix)
    inside = index.below(start.rstrip(b'/')) if start else index.paths
    sorted_away = [np.empty(0, inside.dtype), *_class_folders(index, prefix).values()]
    return np.setdiff1d(inside, np.concatenate(sorted_away), assume_unique=True)


def _by_class(path: Path, index: FileIndex, prefix: str) -> tuple[list[str], Listed]:
    """Classes by the folders directly below ``prefix``, and the images in or below them."""
    loose = _loose(index, prefix)
    if len(loose):
        raise ValueError(
            f'{path}: {len(loose):,} images lie in no class folder, {os.fsdecode(bytes(loose[0]))} '
            f'for one; labels come from {LAYOUTS}'
        )
    folders = _class_folders(index, prefix)
    names, parts = list(folders), list(folders.values())
    counts = [len(part) for part in parts]
    if 0 in counts:
        empty = names[counts.index(0)]
        raise ValueError(
            f'{path}: the class {prefix}{empty} has no images: add some, or remove the folder'
        )
    if len(names) < 2:
        raise ValueError(
            f'{path}: one folder, {prefix}{names[0]}, is no classes; labels come from {LAYOUTS}'
        )
    check_names(path, names)
    return names, Listed(np.concatenate(parts), np.repeat(np.arange(len(names)), counts))


def _of_shards(path: Path, index: FileIndex, labels: bool) -> OwnImages:
    """Shards in ``train``, and with labels also in ``val``; without, also in the folder itself."""
    inside = {split: Listed(index.paths, None) for split in OTHER_SPLIT if _shards(path / split)}
    if labels:
        if len(inside) < 2:
            raise ValueError(
                f'{path}: shards with labels are train/*.tar and val/*.tar with <key>.cls each, '
                f'and {CLASSES}'
            )
        return OwnImages(path, index.digest, inside, read_classes(path), path)
    folder = path / 'train' if 'train' in inside else path
    if not _shards(folder):
        raise ValueError(f'{path}: no images; tar shards are read in it or in {path}/train')
    return OwnImages(path, index.digest, {'train': Listed(index.paths, None)}, (), folder)


def _shards(folder: Path) -> bool:
    return bool(shard_files(folder))


def _tables_of(path: Path, index: FileIndex) -> dict[str, Path]:
    """Split -> CSV of a folder; a single one holds all splits."""
    names = [name for name in index.table_names if name.lower().endswith(CSVS) and '/' not in name]
    if len(names) == 1:
        return {'': path / names[0]}
    found = {SPLITS.get(Path(name).stem.lower(), name): path / name for name in names}
    if names and not (found.keys() <= {'train', 'val', 'test'} and 'train' in found):
        raise ValueError(
            f'{path}: {", ".join(names[:3])} are several CSV files; expected one, or train.csv and '
            'val.csv'
        )
    return {split: table for split, table in found.items() if split != 'test'}


def _of_tables(
    source: Path, labels: bool, tables: dict[str, Path] | None = None, digest: str = ''
) -> OwnImages:
    """Images that lists or CSV files name."""
    tables = tables or {'': source}
    stats = [table.stat() for table in tables.values()]
    stamps = np.array([(stat.st_size, stat.st_mtime_ns) for stat in stats])
    key = hashlib.sha256(repr([str(t.absolute()) for t in tables.values()]).encode()).hexdigest()
    columns = kept_index(
        INDICES / f'{key[:16]}.npz',
        lambda columns: np.array_equal(columns['stamps'], stamps),
        lambda: {**read_tables(tables), 'stamps': stamps},
        lambda columns: len(columns['paths']) >= KEPT_FROM,
    )
    digest = digest or str(columns['digest'])
    if not labels:
        keep = columns['paths'][columns['splits'] == 0]
        return OwnImages(source, digest, {'train': Listed(keep, None)})
    classes = _classes(source, columns['labels'], next(iter(tables.values())).parent / CLASSES)
    number = {name: label for label, name in enumerate(classes)}
    labelled = np.array([number[name] for name in columns['labels'].tolist()], dtype=np.int64)
    splits = {}
    for place, split in enumerate(('train', 'val')):
        chosen = np.flatnonzero(columns['splits'] == place)
        if not chosen.size:
            continue
        counts = np.bincount(labelled[chosen], minlength=len(classes))
        if (counts == 0).any():
            lacking = _some(classes[label] for label in np.flatnonzero(counts == 0))
            raise ValueError(f'{source}: classes without images in {split}: {lacking}')
        order = chosen[np.argsort(labelled[chosen], kind='stable')]
        splits[split] = Listed(columns['paths'][order], labelled[order])
    return OwnImages(source, digest, splits, classes)


def _classes(source: Path, labels: np.ndarray, known: Path) -> tuple[str, ...]:
    """Classes of labels as written: those of classes.txt, else sorted, numbers by their value."""
    found = sorted(set(labels.tolist()))
    if known.is_file():
        classes = read_classes(known.parent)
        if unknown := [name for name in found if name not in classes]:
            raise ValueError(
                f'{source}: the label {unknown[0]!r} is none of {known}: {", ".join(classes[:5])}'
            )
        return classes
    numbers = [name for name in found if name.isdecimal()]
    if numbers and len(numbers) < len(found):
        other = next(name for name in found if not name.isdecimal())
        raise ValueError(
            f'{source}: labels are numbers ({numbers[0]}) and texts ({other}); write them all in '
            f'one way, or name the classes in {known}'
        )
    check_names(source, found)
    if len(found) < 2:
        raise ValueError(f'{source}: one label, {found[0] or "empty"}, makes no classes')
    return tuple(sorted(found, key=int) if numbers else found)
