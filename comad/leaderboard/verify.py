"""Are the tables what records, files and published figures give?

The files that records cite are compared as far as they are on this machine; tables of the sample
that are kept without their records must agree with themselves (kept.py).
"""

import os
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy
from pandas import DataFrame

from backbones.files import sha256_of
from comad.data.manifest import data_manifest
from comad.leaderboard.cells import read_cells
from comad.leaderboard.kept import KEPT
from comad.leaderboard.results_page import PAGE, stale_page
from comad.leaderboard.tables import (
    COLUMNS,
    MEASURED,
    make_leaderboards,
    own_columns,
    to_csv,
)
from comad.runs.place import PUBLISHED_CSV, get_track, results_folder, results_of_code, worded
from comad.runs.record import RECORD_FILES, Record, resolved_name
from comad.runs.resolved import read_resolved
from comad.runs.track import FULL, SAMPLE

KINDS = ('student files', 'checkpoints', 'resolved configs', 'data manifests')
STUDENTS, CHECKPOINTS, CONFIGS, DATA = KINDS


@dataclass
class Verification:
    """What was looked at, and what was found.

    Attributes:
        looked: Lines that say what was compared and what could not be.
        notes: Lines on what is sound but not ranked.
        refused: Lines on records, files and published rows that are not what they say.
        stale: Lines on tables that are not what their sources give.
    """

    looked: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)
    stale: list[str] = field(default_factory=list)

    @property
    def sound(self) -> bool:
        """Whether nothing was refused and no table is stale."""
        return not self.refused and not self.stale


def verify(
    track: str = FULL,
    records: str | os.PathLike[str] | None = None,
    out: str | os.PathLike[str] | None = None,
    published: str | os.PathLike[str] = PUBLISHED_CSV,
    root: Path = Path(),
    data: str = '',
) -> Verification:
    """Rebuild the tables in memory and compare; nothing is written.

    A record whose files are other ones than it says is refused, but still counts for the comparison
    of the tables: it is what they were built from.

    Args:
        track: The track whose tables to verify.
        records: Folder of run records; results/[TRACK/]records by default.
        out: Folder of the tables; results/[TRACK/] by default.
        published: File of published figures.
        root: Folder that relative work dirs start from.
        data: Name of the data of one's own that the tables are of.

    Raises:
        FileNotFoundError: If a folder or file that is needed is missing.
        ValueError: If ``published`` has other columns.
    """
    home = results_folder(track, data)
    folder = Path(records or home / 'records')
    if out is not None and not Path(out).is_dir():
        raise FileNotFoundError(f'{out} is no folder of tables')
    if track != FULL and not folder.is_dir():
        way = 'tools/quickstart.sh makes some' if track == SAMPLE else 'no run has left any'
        raise FileNotFoundError(f'{folder} is no folder of run records; {way}')
    boards = make_leaderboards(track, records, out, published, data)
    found = Verification(notes=boards.notes, refused=list(boards.refused))
    if folder.is_dir():
        left_out = len(list(folder.glob(RECORD_FILES))) - len(boards.records)
        found.looked.append(f'{folder}: {len(boards.records)} records read, {left_out} refused')
    else:
        found.looked.append(f'{folder}: not there, no evaluation has been recorded yet')
    if boards.records:
        _check_files(boards.records, root, found)
    update = worded('python tools/leaderboard.py') + get_track(track).option
    update += f' --data {data}' if data else ''
    for name, path in boards.files.items():
        table = boards.tables[name]
        # A home in which nothing was built yet.
        if not (boards.records or path.exists() or results_of_code(path.parent)):
            found.looked.append(f'{path}: not there; {update} makes it')
            continue
        if reason := difference(path, table):
            found.stale.append(f'{reason}; write it again with {update}')
            continue
        measured = sum(table['kind'] == MEASURED)
        found.looked.append(
            f'{path}: up to date, {measured} measured and {len(table) - measured} published rows'
        )
    if track == FULL and not data:
        _check_kept(Path(out or home), found)
    if track == FULL and not data and records is None and out is None:
        if reason := stale_page(boards.tables):
            found.stale.append(f'{reason}; write it again with {update}')
        elif PAGE.is_file():
            found.looked.append(f'{PAGE}: its tables are up to date')
    return found


def _check_kept(folder: Path, found: Verification) -> None:
    """Tables of the sample that are kept without their records must agree with themselves."""
    for kept, (check, grid) in KEPT.items():
        path = folder / kept.name
        if not path.is_file():
            line = f'{path}: not there; {worded("python tools/sweep.py")} {grid} --sample makes it'
            if results_of_code(folder):
                found.stale.append(f'{line}, git restore brings it back')
            else:
                found.looked.append(line)
            continue
        rows, problems = check(path)
        found.stale += problems
        if not problems:
            found.looked.append(f'{path}: {rows} rows, each agrees with the values that it lists')


def _check_files(records: Iterable[Record], root: Path, found: Verification) -> None:
    """Compare the files that records cite with the digests that they cite.

    Weights and configs that differ are refused: the row belongs to other ones than those at hand.
    Data may have been checked or packed anew since, which the manifest cannot tell from other
    data: a note.
    """
    digests: dict[Path, str | None] = {}
    checked, absent = Counter(), Counter()
    for record in records:
        for what, name, path, cited in _cited(record, root):
            if path not in digests:
                digests[path] = _sha256(path)
            own = digests[path]
            (absent if own is None else checked)[what] += 1
            if own not in (None, cited):
                found.refused.append(
                    f'{record.file}: {name} is {cited[:12]}, {path} has {own[:12]}: changed or '
                    'made again since; run the evaluation again'
                )
        if (cited := record.manifest) is None:
            continue
        path = root / (record.config.work_dir or '') / resolved_name(record.task)
        # A config that is not the run's says nothing about the run's data.
        its_own = digests.get(path) == record.config.resolved_sha256
        own = _manifest(path, root) if its_own else None
        (absent if own is None else checked)[DATA] += 1
        if own not in (None, cited):
            found.notes.append(
                f'{record.file}: its data manifest is {cited[:12]}, the data here have '
                f'{own[:12]}: measured on other data, or these were checked or packed again since'
            )
    found.looked += [
        f'{what}: {checked[what]} checked, {absent[what]} not on this machine' for what in KINDS
    ]


def _cited(record: Record, root: Path) -> Iterator[tuple[str, str, Path, str]]:
    """What, the record's field, the file and its digest, for everything that the record cites."""
    checkpoint, config = record.checkpoint, record.config
    if digest := record.student.sha256:
        path = root / record.pretrain_dir / 'student.safetensors'
        yield STUDENTS, 'student.sha256', path, digest
    work_dir = root / (config.work_dir or '')
    if (digest := checkpoint.sha256) and checkpoint.file:
        yield CHECKPOINTS, 'checkpoint.sha256', work_dir / checkpoint.file, digest
    if digest := config.resolved_sha256:
        yield CONFIGS, 'config.resolved_sha256', work_dir / resolved_name(record.task), digest


def _manifest(path: Path, root: Path) -> str | None:
    """The manifests at the data roots that the resolved config names; None without them."""
    try:
        return data_manifest(_below(read_resolved(path), root))
    except (OSError, ValueError, AttributeError):  # no config of ours
        return None


def _below(node: Any, root: Path, key: str = '') -> Any:
    """The config with relative data folders below ``root``."""
    if isinstance(node, dict):
        return {name: _below(value, root, name) for name, value in node.items()}
    if isinstance(node, (list, tuple)):
        return [_below(value, root, key) for value in node]
    return str(root / node) if key in ('root', 'data_root') and isinstance(node, str) else node


def _sha256(path: Path) -> str | None:
    """Hex digest of a file's bytes, None if there is no such file or it cannot be read."""
    try:
        return sha256_of(path) if path.is_file() else None  # neither a folder nor a device
    except (OSError, ValueError):
        return None


def difference(path: Path, table: DataFrame) -> str | None:
    """Return the first place where a file differs from its table, None if nowhere."""
    try:
        if path.read_bytes() == to_csv(table).encode():
            return None
        shown = read_cells(path)
    except OSError as error:
        return f'{path} cannot be read ({error.strerror})'
    except ValueError as error:
        return str(error)
    columns = [*COLUMNS, *own_columns(table)]
    if list(shown) != columns:
        return f'{path}: other columns'
    cells = [rows.head(len(shown)).to_numpy(object) for rows in (shown, table[columns])]
    old, new = (own[: len(table)] for own in cells)
    for row, column in numpy.argwhere(old != new)[:1]:
        named = table.loc[row, ['method', 'protocol', 'metric', 'pool']]
        return (
            f'{path}, row {row + 1} ({", ".join(filter(None, named))}): {columns[column]} is '
            f'{old[row, column]!r}, the records and published figures give {new[row, column]!r}'
        )
    if len(shown) != len(table):
        return f'{path}: {len(shown)} rows, {len(table)} are due'
    return f'{path}: line ends or quotes differ'
