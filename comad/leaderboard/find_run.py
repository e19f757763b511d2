"""From what a command line says to a run: a record, a run's folder, or all seeds of a row."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from backbones.names import meant
from comad.leaderboard.tables import identity
from comad.runs.place import RESULTS, record_folders
from comad.runs.record import Record, RecordError, decode, parse
from comad.tasks.recording import check_task

SEEDS = re.compile(r'_p(\d+)_s(\d+)$')
NEAR = 5


class UnknownName(ValueError):
    """A name that is no run; the message is one line with near names."""


@dataclass
class Run:
    """A run, or all seeds of a row: its records by file name, and where it ran.

    Attributes:
        name: What it was called on the command line.
        records: File name -> record; empty for a folder without one, such as a pretraining's.
        folders: File name -> the run's folder, where it is still there; a folder without a
            record is listed under ''.
        siblings: Records beside them that are other seeds of the same row.
        notes: What has to be said about them, one line each.
    """

    name: str
    records: dict[str, Record] = field(default_factory=dict)
    folders: dict[str, Path] = field(default_factory=dict)
    siblings: list[Record] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def find_run(name: str, folders: Sequence[Path] | None = None) -> Run:
    """Return the run of that name.

    Args:
        name: A record's file, a run's folder, a record's bare name, or ``<task>_<student>`` for
            all seeds of a row.
        folders: Folders of records that bare names and rows are looked up in, first one first;
            those of all tracks by default.

    Raises:
        UnknownName: If it names none; the message lists near names.
        ValueError: If it is a file, but no record; or if several records belong to the folder.
    """
    path = Path(name)
    folders = record_folders() if folders is None else folders
    if path.is_dir():
        return _of_folder(name, path, folders)
    if path.is_file():
        return _of_records(name, [path])
    bare = name.removesuffix('.json')
    for pattern in (f'{bare}.json', f'{name}_p*_s*.json') if path.name == name else ():
        for folder in folders:
            found = [p for p in sorted(folder.glob(pattern)) if bare in (p.stem, _row_of(p.stem))]
            if found:
                return _of_records(name, found)
    stems = [path.stem for folder in folders for path in sorted(folder.glob('*.json'))]
    names = dict.fromkeys([*stems, *map(_row_of, stems)])
    near = meant(path.name.removesuffix('.json'), names, NEAR)
    if not near:
        looked = ', '.join(map(str, folders))
        near = f'; {len(stems)} records lie below {looked}, none of a near name'
    raise UnknownName(f'{name} is no record, no run folder and no row{near}')


def _row_of(stem: str) -> str:
    """``linear_comad_tiny`` of ``linear_comad_tiny_p0_s0``."""
    return SEEDS.sub('', stem)


def _of_records(name: str, paths: Sequence[Path]) -> Run:
    run = Run(name)
    refused: dict[str, list[str]] = {}
    for path in paths:
        record = run.records[path.name] = _read(path)
        try:
            check_task(decode(path.read_bytes()))
        except RecordError as error:
            refused.setdefault(str(error), []).append(path.stem)
        if folder := _work_dir(path, record):
            run.folders[path.name] = folder
    # Shown all the same: what the tables refuse is what people want to compare.
    run.notes += [f'the tables refuse {", ".join(n)} ({why})' for why, n in refused.items()]
    (first, *_), home = run.records.values(), paths[0].parent
    for path in sorted(home.glob(f'{_row_of(paths[0].stem)}_p*_s*.json')):
        if path.name not in run.records and (record := _read_any(path)) is not None:
            run.siblings += [record] if _row(record) == _row(first) else []
    others = [file for file, record in run.records.items() if _row(record) != _row(first)]
    if others:
        run.notes.append(
            f'{name}: {", ".join(others)} differ from {paths[0].name} in more than seeds; their '
            f'mean mixes rows'
        )
    return run


def _of_folder(name: str, path: Path, folders: Sequence[Path]) -> Run:
    """A run's folder by the records that name it; without one only config and curves."""
    own = path.resolve()
    # Where the checkout that the folder lies in keeps its records.
    roots = [parent.parent for parent in own.parents if parent.name == 'work_dirs']
    found = {
        candidate.resolve(): None
        for folder in (
            *(root / records for root in roots for records in record_folders()),
            *folders,
        )
        for candidate in sorted(folder.glob('*.json'))
        if (record := _read_any(candidate)) is not None
        if (owned := _work_dir(candidate, record)) is not None and owned.resolve() == own
    }
    if len(found) > 1:
        names = ', '.join(path.stem for path in found)
        raise ValueError(f'{name} has several records: {names}; name one of them')
    if found:
        run = _of_records(name, list(found))
        return replace(run, folders=dict.fromkeys(run.records, path))
    # A pretraining has no record; what every start of a run leaves tells it from other folders.
    if not any(path.glob('*/vis_data/config.py')):
        raise UnknownName(
            f'{name} is no run: no record names it as its work_dir, and no start of a run left '
            f'vis_data/config.py in it; give a folder such as '
            f'work_dirs/sample/linear/comad_tiny/seed0'
        )
    return Run(name, folders={'': path}, notes=[f'{name}: no record names it; no metrics of it'])


def _read(path: Path) -> Record:
    """A record, also one that the tables would refuse."""
    try:
        return parse(path.read_bytes())
    except RecordError as error:
        raise ValueError(f'{path} is no run record: {error}') from None


def _read_any(path: Path) -> Record | None:
    try:
        return _read(path)
    except (OSError, ValueError):
        return None


def _row(record: Record) -> tuple[Any, ...]:
    """What the seeds of one row share."""
    data = (record.dataset, record.train_dataset, record.track)
    return (record.task, *data, record.protocol, identity(record.student))


def _work_dir(path: Path, record: Record) -> Path | None:
    """The run's folder, relative to the checkout of the record or to the present folder."""
    if not (work_dir := record.config.work_dir):
        return None
    folder = path.resolve().parent
    kept = RESULTS.name in (folder.parent.name, folder.parent.parent.name)
    roots = [parent.parent for parent in folder.parents if kept and parent.name == RESULTS.name]
    return next((root / work_dir for root in (*roots, Path()) if (root / work_dir).is_dir()), None)
