"""From what a command line says to a run: a record, a run's folder, or all seeds of a row."""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from comad.leaderboard.build import RESULTS, SAMPLE_RESULTS
from comad.leaderboard.tables import identity
from comad.runs.record import RecordError, decode
from comad.tasks.recording import check_task

RECORDS = (RESULTS / 'records', SAMPLE_RESULTS / 'records')
SEEDS = re.compile(r'_p(\d+)_s(\d+)$')
SECTIONS = ('student', 'protocol', 'metrics', 'seeds', 'config', 'environment')
NEAR = 5


class UnknownName(ValueError):
    """A name that is no run; the message is one line with near names."""


@dataclass
class Run:
    """A run, or all seeds of a row: its records by file name, and where it ran.

    Attributes:
        name: What it was called on the command line.
        records: File name -> contents; empty for a folder without one, such as a pretraining's.
        folders: File name -> the run's folder, where it is still there; a folder without a
            record is listed under ''.
        siblings: Records beside them that may be other seeds of the same row.
        notes: What has to be said about them, one line each.
    """

    name: str
    records: dict[str, dict[str, Any]] = field(default_factory=dict)
    folders: dict[str, Path] = field(default_factory=dict)
    siblings: dict[str, dict[str, Any]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


def find_run(name: str, folders: Sequence[Path] = RECORDS) -> Run:
    """Return the run of that name.

    Args:
        name: A record's file, a run's folder, a record's bare name, or ``<task>_<student>`` for
            all seeds of a row.
        folders: Folders of records that bare names and rows are looked up in, first one first.

    Raises:
        UnknownName: If it names none; the message lists near names.
        ValueError: If it is a file, but no record; or if several records belong to the folder.
    """
    path = Path(name)
    if path.is_dir():
        return _of_folder(name, path, folders)
    if path.is_file():
        return _of_records(name, [path])
    for folder in folders if path.name == name else ():
        if (record := folder / f'{name.removesuffix(".json")}.json').is_file():
            return _of_records(name, [record])
    for folder in folders if path.name == name else ():
        seeds = [p for p in sorted(folder.glob(f'{name}_p*_s*.json')) if row_of(p.stem) == name]
        if seeds:
            return _of_records(name, seeds)
    near = _near_names(name, folders)
    raise UnknownName(f'{name} is no record, no run folder and no row; {near}')


def row_of(stem: str) -> str:
    """Return ``linear_comad_tiny`` of ``linear_comad_tiny_p0_s0``; '' for no record's name."""
    return SEEDS.sub('', stem) if SEEDS.search(stem) else ''


def _near_names(name: str, folders: Sequence[Path]) -> str:
    """Return which names are close, as the end of a message."""
    stems = [path.stem for folder in folders for path in sorted(folder.glob('*.json'))]
    names = dict.fromkeys([*stems, *filter(None, map(row_of, stems))])
    if near := get_close_matches(Path(name).name.removesuffix('.json'), names, NEAR, 0.5):
        return f'near names: {", ".join(near)}'
    looked = ', '.join(str(folder) for folder in folders)
    return f'{len(stems)} records lie below {looked}, none of a near name'


def same_row(first: Mapping[str, Any], second: Mapping[str, Any]) -> bool:
    """Return whether two records differ in nothing but seeds: one row of a table."""
    return _row(first) == _row(second)


def _row(record: Mapping[str, Any]) -> str:
    own = [record.get(key) for key in ('task', 'dataset', 'split', 'sample', 'protocol')]
    return json.dumps([own, identity(record['student'])], sort_keys=True)


def _of_records(name: str, paths: Sequence[Path]) -> Run:
    run, refused = Run(name), {}
    for path in paths:
        record = run.records[path.name] = _read(path)
        try:
            check_task(decode(path.read_bytes()))
        except RecordError as error:
            refused.setdefault(str(error), []).append(path.stem)
        if folder := _work_dir(path, record):
            run.folders[path.name] = folder
    # Shown all the same: an old record next to a new one is a comparison that people want.
    run.notes += [f'the tables refuse {", ".join(n)} ({why})' for why, n in refused.items()]
    (first, *_), home = run.records.values(), paths[0].parent
    for path in sorted(home.glob(f'{row_of(paths[0].stem) or paths[0].stem}_p*_s*.json')):
        if path.name not in run.records:
            try:
                record = _read(path)
            except (OSError, ValueError):
                continue
            if same_row(record, first):
                run.siblings[path.name] = record
    others = [file for file, record in run.records.items() if not same_row(record, first)]
    if others:
        run.notes.append(
            f'{name}: {", ".join(others)} differ from {paths[0].name} in more than seeds; their '
            f'mean mixes rows'
        )
    return run


def _of_folder(name: str, path: Path, folders: Sequence[Path]) -> Run:
    """A run's folder by the records that name it; without one only config and curves."""
    found = []
    for folder in (*_homes(path), *folders):
        for candidate in sorted(folder.glob('*.json')):
            try:
                record = _read(candidate)
            except (OSError, ValueError):
                continue
            owned = _work_dir(candidate, record)
            if owned is not None and owned.resolve() == path.resolve():
                found.append(candidate.resolve())
    found = list(dict.fromkeys(found))
    if len(found) > 1:
        names = ', '.join(path.stem for path in found)
        raise ValueError(f'{name} has several records: {names}; name one of them')
    if found:
        run = _of_records(name, found)
        run.folders = dict.fromkeys(run.records, path)
        return run
    # A pretraining has no record; what every start of a run leaves tells it from other folders.
    if not any(path.glob('*/vis_data/config.py')):
        raise UnknownName(
            f'{name} is no run: no record names it as its work_dir, and no start of a run left '
            f'vis_data/config.py in it; give a folder such as '
            f'work_dirs/sample/linear/comad_tiny/seed0'
        )
    return Run(name, folders={'': path}, notes=[f'{name}: no record names it; no metrics of it'])


def _homes(folder: Path) -> list[Path]:
    """Where the checkout that a run's folder lies in keeps its records."""
    path = folder.resolve()
    roots = [parent.parent for parent in path.parents if parent.name == 'work_dirs']
    return [root / records for root in roots for records in RECORDS]


def _read(path: Path) -> dict[str, Any]:
    """A record, also one that the tables would refuse."""
    try:
        record = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise ValueError(f'{path} is no valid JSON: {error}') from None
    if reason := _unusable(record):
        raise ValueError(f'{path} is no run record: {reason}')
    return record


def _unusable(record: Any) -> str:
    """Why a record cannot even be shown; '' if it can, whatever the tables think of it."""
    if not isinstance(record, dict):
        return f'it holds a {type(record).__name__}'
    for key in ('task', *SECTIONS):
        if key not in record:
            return f'{key!r} is absent'
        if not isinstance(record[key], str if key == 'task' else dict):
            return f'{key!r} is {record[key]!r}'
    for key in ('pretrain', 'transfer'):
        if not isinstance(record['seeds'].get(key), int):
            return f'seeds.{key} is {record["seeds"].get(key)!r}, no integer'
    if not isinstance(record['config'].get('path'), str):
        return 'config.path is no text'
    teachers = record['student'].get('teachers') or []
    if not isinstance(teachers, list) or not all(isinstance(t, dict) for t in teachers):
        return 'student.teachers is no list of objects'
    for section in ('metrics', 'other_metrics'):
        for key, value in (record.get(section) or {}).items():
            if isinstance(value, bool) or not isinstance(value, (int, float)):
                return f'{section}.{key} is {value!r}, no number'
    return ''


def _work_dir(path: Path, record: Mapping[str, Any]) -> Path | None:
    """The run's folder, relative to the checkout of the record or to the present folder."""
    if not (work_dir := record['config'].get('work_dir')):
        return None
    folder = path.resolve().parent
    roots = [parent.parent for parent in folder.parents if parent.name == RESULTS.name]
    if folder.parent.name != RESULTS.name and folder.parent.parent.name != RESULTS.name:
        roots = []
    for root in (*roots, Path()):
        if (root / work_dir).is_dir():
            return root / work_dir
    return None
