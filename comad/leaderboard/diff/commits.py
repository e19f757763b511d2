"""What differs between two commits: code, configs, and the rows of the tables kept in git.

Everything is read from git's objects; nothing is checked out.
"""

import csv
import io
import json
import os
import subprocess
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from comad.leaderboard.diff.metrics import judge
from comad.leaderboard.tables import Statistics
from comad.tasks.task import TABLES, TASKS

Cells = dict[str, str]
# File -> columns that name a row, and the columns of mean, sd and n.
BOARD = ('kind', 'method', 'method_version', 'student', 'teachers', 'pretrain_epochs', 'protocol')
BOARD += ('protocol_version', 'pool', 'resolution', 'metric')
PUBLISHED = ('method', 'student', 'heads', 'teachers', 'pretrain_epochs', 'task', 'dataset')
PUBLISHED += ('protocol', 'protocol_detail', 'resolution', 'metric')
TABLE_KEYS: dict[str, tuple[tuple[str, ...], str]] = {
    **{f'results/leaderboard_{name}.csv': (BOARD, 'value') for name in TABLES},
    'results/sample_study.csv': (('student', 'task', 'metric', 'pool'), 'mean'),
    'results/published.csv': (PUBLISHED, 'value'),
}
RECORDS = 'results/records'
CONFIG_FOLDERS = ('base_configs', 'pretrain_configs', 'cls_configs', 'seg_configs', 'det_configs')
GIT_SECONDS = 60


@dataclass(frozen=True)
class Folder:
    """Changes below one top-level folder, or of one top-level file; lines added and removed."""

    name: str
    files: int
    added: int
    removed: int


@dataclass(frozen=True)
class RowChange:
    """A row that both commits have: what names it, and its changed cells as (A, B).

    ``difference`` is B's mean minus A's; ``noise`` and ``beyond_noise`` are None where either
    side's spread is unknown.
    """

    row: Cells
    cells: dict[str, tuple[str, str]]
    difference: float | None = None
    noise: float | None = None
    beyond_noise: bool | None = None


@dataclass
class TableDifference:
    """Rows of one file that were added, removed or changed."""

    name: str
    added: list[Cells] = field(default_factory=list)
    removed: list[Cells] = field(default_factory=list)
    changed: list[RowChange] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


@dataclass
class CommitsDifference:
    """Two commits as (name, hash): changed folders, changed configs, tables that differ."""

    commits: tuple[tuple[str, str], tuple[str, str]]
    folders: list[Folder]
    configs: list[str]
    tables: list[TableDifference]

    @property
    def equal(self) -> bool:
        """Whether neither a config nor a row differs; code may."""
        return not self.configs and not self.tables

    def as_dict(self) -> dict[str, Any]:
        """The same as plain Python for JSON."""
        return {'kind': 'commits', 'equal': self.equal, **asdict(self)}


def find_commit(name: str, root: Path = Path()) -> str | None:
    """Return the hash of the commit that git reads the name as, None if it reads none."""
    options = ('--verify', '--quiet', '--end-of-options')
    try:
        found = _git(root, 'rev-parse', *options, f'{name}^{{commit}}')
    except (OSError, ValueError):
        return None
    return found.strip() or None


def branches_and_tags(root: Path = Path()) -> list[str]:
    """Return the names of branches and tags; none outside of a git checkout."""
    try:
        refs = _git(root, 'for-each-ref', '--format=%(refname:short)', 'refs/heads', 'refs/tags')
    except (OSError, ValueError):
        return []
    return refs.split()


def compare_commits(
    first: tuple[str, str], second: tuple[str, str], root: Path = Path()
) -> CommitsDifference:
    """Compare two commits, each given as (name, hash).

    Raises:
        ValueError: If git does not answer, or a kept table is no CSV with the columns needed.
    """
    a, b = first[1], second[1]
    top = Path(_git(root, 'rev-parse', '--show-toplevel').strip())
    changes = _changed_files(top, a, b)
    folders: dict[str, list[tuple[int, int]]] = {}
    for name, lines in changes.items():
        folders.setdefault(name.partition('/')[0], []).append(lines)
    totals = [
        Folder(name, len(lines), sum(p for p, _ in lines), sum(m for _, m in lines))
        for name, lines in sorted(folders.items())
    ]
    configs = sorted(name for name in changes if name.partition('/')[0] in CONFIG_FOLDERS)
    tables = [_compare_table(top, a, b, name) for name in TABLE_KEYS if name in changes]
    if records := [name for name in changes if _is_record(name)]:
        tables.append(_compare_records(top, a, b, sorted(records)))
    differing = [t for t in tables if t.added or t.removed or t.changed or t.notes]
    return CommitsDifference((first, second), totals, configs, differing)


def _compare_table(root: Path, a: str, b: str, name: str) -> TableDifference:
    key, value = TABLE_KEYS[name]
    tables = [_read_csv(root, commit, name) for commit in (a, b)]
    found = TableDifference(name)
    columns = [list(rows[0]) if rows else [] for rows in tables]
    for word, one, other in (('gained', 1, 0), ('lost', 0, 1)):
        if all(columns) and (new := [c for c in columns[one] if c not in columns[other]]):
            found.notes.append(f'columns {word}: {", ".join(new)}')
    shared = [column for column in columns[1] if column in columns[0]]
    old, new = (_by_key(rows, key) for rows in tables)
    shown = (*key, value, 'sd', 'n')
    found.added = [_some(cells, shown) for k, cells in new.items() if k not in old]
    found.removed = [_some(cells, shown) for k, cells in old.items() if k not in new]
    for k, cells in new.items():
        if k in old and (changed := [c for c in shared if cells[c] != old[k][c]]):
            pairs = {column: (old[k][column], cells[column]) for column in changed}
            figures = (_statistics(old[k], value), _statistics(cells, value))
            verdict = judge(*figures) if value in pairs else (None, None, None)
            found.changed.append(RowChange(_some(cells, key), pairs, *verdict))
    return found


def _compare_records(root: Path, a: str, b: str, names: list[str]) -> TableDifference:
    found = TableDifference(RECORDS)
    for name in names:
        old, new = (_read_record(root, commit, name) for commit in (a, b))
        row = {'record': Path(name).name}
        if old is None or new is None:
            (found.added if old is None else found.removed).append({**row, **(old or new or {})})
            continue
        keys = dict.fromkeys([*old, *new])
        pairs = {k: (old.get(k, ''), new.get(k, '')) for k in keys if old.get(k) != new.get(k)}
        found.changed.append(RowChange(row, pairs or {'contents': ('other', 'other')}))
    return found


def _changed_files(root: Path, a: str, b: str) -> dict[str, tuple[int, int]]:
    text = _git(root, 'diff', '--numstat', '--no-renames', '--no-ext-diff', '-z', a, b)
    changes = {}
    for entry in filter(None, text.split('\0')):
        added, removed, name = entry.split('\t', 2)
        # A binary file has no lines: git says "-".
        changes[name] = (int(added) if added != '-' else 0, int(removed) if removed != '-' else 0)
    return changes


def _is_record(name: str) -> bool:
    return Path(name).parent.as_posix() == RECORDS and name.endswith('.json')


def _read_csv(root: Path, commit: str, name: str) -> list[Cells]:
    if (text := _show(root, commit, name)) is None:
        return []
    rows = list(csv.DictReader(io.StringIO(text, newline='')))
    return [{str(k): v or '' for k, v in row.items() if isinstance(v, str)} for row in rows]


def _read_record(root: Path, commit: str, name: str) -> Cells | None:
    """A record's figures in percent, as text."""
    if (text := _show(root, commit, name)) is None:
        return None
    try:
        record = json.loads(text)
        metrics = TASKS[record['task']].metrics
        return {k: f'{metrics[k].percent(v):.2f}' for k, v in record['metrics'].items()}
    except (ValueError, KeyError, TypeError, AttributeError):
        return {'contents': 'no run record'}


def _by_key(rows: list[Cells], key: tuple[str, ...]) -> dict[tuple[str, ...], Cells]:
    """Rows by what names them; rows of one name are counted, in the file's order."""
    seen: Counter[tuple[str, ...]] = Counter()
    found = {}
    for cells in rows:
        name = tuple(cells.get(column, '') for column in key)
        seen[name] += 1
        found[(*name, str(seen[name]))] = cells
    return found


def _some(cells: Mapping[str, str], columns: tuple[str, ...]) -> Cells:
    return {column: cells[column] for column in columns if cells.get(column)}


def _statistics(cells: Mapping[str, str], value: str) -> Statistics | None:
    try:
        sd, n = cells.get('sd'), int(cells.get('n') or 1)
        return Statistics(float(cells[value]), float(sd) if sd and n > 1 else None, n)
    except (ValueError, KeyError):
        return None


def _show(root: Path, commit: str, name: str) -> str | None:
    try:
        return _git(root, 'show', f'{commit}:{name}')
    except ValueError:
        return None


def _git(root: Path, *arguments: str) -> str:
    done = subprocess.run(
        ['git', '-C', str(root), *arguments],
        capture_output=True,
        timeout=GIT_SECONDS,
        env={**os.environ, 'GIT_OPTIONAL_LOCKS': '0'},
    )
    if done.returncode:
        reason = done.stderr.decode(errors='replace').strip().splitlines() or ['no answer']
        raise ValueError(f'git {arguments[0]}: {reason[0]}')
    return done.stdout.decode(errors='replace')
