"""From folders to leaderboard files: read, refuse by name, build, write."""

import os
from dataclasses import dataclass, field
from pathlib import Path

from comad.leaderboard.published import PUBLISHED, PublishedRows, read_published
from comad.leaderboard.records import Record, Records, read_records
from comad.leaderboard.tables import Row, build_table, to_csv, write_text
from comad.leaderboard.tasks import TABLES

RESULTS = Path('results')
SAMPLE_RESULTS = RESULTS / 'sample'


@dataclass
class Leaderboards:
    """The tables by name, the files they were written to, and what has to be said about them.

    ``refused`` names records and published rows that were left out; ``notes`` names what was used
    but cannot be ranked. ``records`` are those that the tables were made of.
    """

    tables: dict[str, list[Row]]
    files: dict[str, Path]
    refused: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    records: list[Record] = field(default_factory=list)


def build_leaderboards(
    sample: bool = False,
    records: str | os.PathLike[str] | None = None,
    out: str | os.PathLike[str] | None = None,
    published: str | os.PathLike[str] = PUBLISHED,
) -> Leaderboards:
    """Build and write the three leaderboards.

    Published figures are full-scale figures: the sample's tables hold measured rows alone.

    Args:
        sample: Whether to build those of the embedded sample.
        records: Folder of run records; results/[sample/]records by default.
        out: Folder the CSVs are written to; results/[sample/] by default.
        published: File of published figures.

    Raises:
        FileNotFoundError: If ``records`` is given and is no folder, or ``published`` is missing.
        ValueError: If ``published`` has other columns.
    """
    boards = make_leaderboards(sample, records, out, published)
    for name, path in boards.files.items():
        write_text(path, to_csv(boards.tables[name]))
    return boards


def make_leaderboards(
    sample: bool = False,
    records: str | os.PathLike[str] | None = None,
    out: str | os.PathLike[str] | None = None,
    published: str | os.PathLike[str] = PUBLISHED,
) -> Leaderboards:
    """Build the three leaderboards in memory; arguments and errors as `build_leaderboards`."""
    home = SAMPLE_RESULTS if sample else RESULTS
    if records is not None and not Path(records).is_dir():
        raise FileNotFoundError(f'{records} is no folder of run records')
    found = _of_scale(read_records(records or home / 'records'), sample)
    figures = PublishedRows([], []) if sample else read_published(published)
    tables = {name: build_table(name, found.accepted, figures.accepted) for name in TABLES}
    files = {name: Path(out or home) / f'leaderboard_{name}.csv' for name in TABLES}
    refused = [*found.refused, *figures.refused]
    notes = [note for record in found.accepted for note in _notes(record)]
    return Leaderboards(tables, files, refused, notes, found.accepted)


def _of_scale(found: Records, sample: bool) -> Records:
    accepted = [record for record in found.accepted if record.data['sample'] == sample]
    scale = {True: 'the embedded sample', False: 'full scale'}
    refused = [
        f'{record.file}: a record of {scale[not sample]} in a folder of {scale[sample]}'
        for record in found.accepted
        if record.data['sample'] != sample
    ]
    return Records(accepted, [*found.refused, *refused])


def _notes(record: Record) -> list[str]:
    missing = record.data['missing'].items()
    notes = [
        f'{record.file}: no {key} ({reason}); its row is not ranked' for key, reason in missing
    ]
    fields = record.data['protocol']['fields'].items()
    if unknown := sorted(name for name, value in fields if value is None):
        notes.append(f'{record.file}: protocol field {unknown[0]} is unknown; it is not ranked')
    return notes
