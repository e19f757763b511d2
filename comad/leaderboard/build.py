"""From folders to leaderboard files: read, refuse by name, build, write."""

import os
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from backbones.files import write_text
from comad.leaderboard.admission import group_by_reason, out_of_place, read_admitted
from comad.leaderboard.published import PUBLISHED, PublishedRows, read_published
from comad.leaderboard.tables import Row, build_table, to_csv
from comad.runs.questions import open_questions
from comad.runs.record import Record, Records
from comad.tasks.task import TABLES, TASKS

RESULTS = Path('results')
SAMPLE_RESULTS = RESULTS / 'sample'


@dataclass
class Leaderboards:
    """The tables by name, the files they belong in, and what has to be said about them.

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
    """Build and write the three leaderboards; arguments and errors as `make_leaderboards`."""
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
    """Build the three leaderboards in memory.

    Published figures are full-scale figures: the sample's tables hold measured rows alone.

    Args:
        sample: Whether to build those of the embedded sample.
        records: Folder of run records; results/[sample/]records by default.
        out: Folder the CSVs belong in; results/[sample/] by default.
        published: File of published figures.

    Raises:
        FileNotFoundError: If ``records`` is given and is no folder, or ``published`` is missing.
        ValueError: If ``published`` has other columns.
    """
    home = SAMPLE_RESULTS if sample else RESULTS
    if records is not None and not Path(records).is_dir():
        raise FileNotFoundError(f'{records} is no folder of run records')
    found = _of_scale(read_admitted(records or home / 'records'), sample)
    figures = PublishedRows([], []) if sample else read_published(published)
    tables = {name: build_table(name, found.accepted, figures.accepted) for name in TABLES}
    files = {name: Path(out or home) / f'leaderboard_{name}.csv' for name in TABLES}
    refused = [*found.refused, *figures.refused]
    return Leaderboards(tables, files, refused, _notes(found.accepted), found.accepted)


def _of_scale(found: Records, sample: bool) -> Records:
    reasons = {record.file: out_of_place(record, sample) for record in found.accepted}
    accepted = [record for record in found.accepted if not reasons[record.file]]
    refused = [f'{file}: {reason}' for file, reason in reasons.items() if reason]
    return Records(accepted, [*found.refused, *refused])


def _notes(records: Iterable[Record]) -> list[str]:
    reasons = {
        record.file: [
            *(f'no {key} ({reason})' for key, reason in record.missing.items()),
            *open_questions(record),
        ]
        for record in records
    }
    return [*group_by_reason(reasons), *_mixed_protocols(records), *_mixed_data(records)]


def _mixed_protocols(records: Iterable[Record]) -> list[str]:
    """One protocol under several settings: a line that names the fields that differ."""
    settings: dict[tuple[str, str, str], list[dict]] = {}
    for record in records:
        protocol = record.protocol
        key = (record.task, protocol.name, str(protocol.version))
        settings.setdefault(key, []).append(protocol.fields)
    notes = []
    for (task, name, version), found in sorted(settings.items()):
        differing = [key for key in sorted(found[0]) if len({str(f.get(key)) for f in found}) > 1]
        if differing:
            notes.append(
                f'{TASKS[task].table}: protocol {name} version {version} of {task} was run with '
                f'different {", ".join(differing)}; such rows are ranked apart'
            )
    return notes


def _mixed_data(records: Iterable[Record]) -> list[str]:
    manifests: dict[str, set[str]] = {}
    for record in records:
        if digest := record.manifest:
            manifests.setdefault(record.task, set()).add(digest)
    return [
        f'{task}: records cite {len(found)} data manifests, '
        f'{", ".join(digest[:12] for digest in sorted(found))}: such rows are ranked apart'
        for task, found in sorted(manifests.items())
        if len(found) > 1
    ]
