"""Are the tables what records, files and published figures give?"""

import os
from dataclasses import dataclass, field
from pathlib import Path

from comad.leaderboard.build import RESULTS, SAMPLE_RESULTS, make_leaderboards
from comad.leaderboard.file_checks import check_files
from comad.leaderboard.outputs import stale_readme
from comad.leaderboard.published import PUBLISHED
from comad.leaderboard.results_page import PAGE
from comad.leaderboard.stale import check_ablations, check_study, difference
from comad.leaderboard.tables import MEASURED, to_csv

STUDY, ABLATIONS = 'sample_study.csv', 'sample_ablations.csv'


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
    sample: bool = False,
    records: str | os.PathLike[str] | None = None,
    out: str | os.PathLike[str] | None = None,
    published: str | os.PathLike[str] = PUBLISHED,
    root: Path = Path(),
) -> Verification:
    """Rebuild the tables in memory and compare; nothing is written.

    A record whose files are other ones than it says is refused, but still counts for the comparison
    of the tables: it is what they were built from.

    Args:
        sample: Whether to verify those of the embedded sample.
        records: Folder of run records; results/[sample/]records by default.
        out: Folder of the tables; results/[sample/] by default.
        published: File of published figures.
        root: Folder that relative work dirs start from.

    Raises:
        FileNotFoundError: If a folder or file that is needed is missing.
        ValueError: If ``published`` has other columns.
    """
    home = SAMPLE_RESULTS if sample else RESULTS
    folder = Path(records or home / 'records')
    if out is not None and not Path(out).is_dir():
        raise FileNotFoundError(f'{out} is no folder of tables')
    if sample and not folder.is_dir():
        raise FileNotFoundError(
            f'{folder} is no folder of run records; tools/quickstart.sh makes some'
        )
    boards = make_leaderboards(sample, records, out, published)
    found = Verification(notes=boards.notes, refused=list(boards.refused))
    if folder.is_dir():
        left_out = len(list(folder.glob('*.json'))) - len(boards.records)
        found.looked.append(f'{folder}: {len(boards.records)} records read, {left_out} refused')
    else:
        found.looked.append(f'{folder}: not there, no evaluation has been recorded yet')
    checks = check_files(boards.records, root)
    if boards.records:
        for what, checked in checks.checked.items():
            absent = checks.absent[what]
            found.looked.append(f'{what}: {checked} checked, {absent} not on this machine')
    found.refused += checks.refused
    found.notes += checks.notes
    update = 'python tools/leaderboard.py' + (' --sample' if sample else '')
    for name, path in boards.files.items():
        rows = boards.tables[name]
        if reason := difference(path, to_csv(rows)):
            found.stale.append(f'{reason}; write it again with {update}')
            continue
        measured = sum(row.cells['kind'] == MEASURED for row in rows)
        found.looked.append(
            f'{path}: up to date, {measured} measured and {len(rows) - measured} published rows'
        )
    if not sample:
        _check_study(Path(out or home), found)
    if not sample and records is None and out is None:
        if reason := stale_readme(boards.tables):
            found.stale.append(f'{reason}; write it again with {update}')
        elif PAGE.is_file():
            found.looked.append(f'{PAGE}: its tables are up to date')
    return found


def _check_study(folder: Path, found: Verification) -> None:
    """Tables of the sample that are kept without their records must agree with themselves."""
    for name, check in ((STUDY, check_study), (ABLATIONS, check_ablations)):
        path = folder / name
        if not path.is_file():
            found.looked.append(f'{path}: not there')
            continue
        rows, problems = check(path)
        found.stale += problems
        if not problems:
            found.looked.append(f'{path}: {rows} rows, each agrees with the values that it lists')
