"""What a finished study and a grid of ablations leave: a CSV, a figure and a reading."""

from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from pandas import DataFrame, concat, to_numeric

from backbones.files import write_text
from comad.engine.distillation import ALONE, Pair
from comad.leaderboard.admission import read_admitted
from comad.leaderboard.cells import read_cells, to_csv
from comad.leaderboard.sample_check import COLUMNS, SAMPLE_CHECK_CSV, check_rows, read_check
from comad.leaderboard.study import (
    ABLATION_COLUMNS,
    ABLATIONS_CSV,
    COMPLEMENTARY_CSV,
    DISTILLATION_CSV,
    STUDY_COLUMNS,
    STUDY_CSV,
    ablation_rows,
    complete,
    draw_ablations,
    read_ablations,
    read_first_look,
    read_study,
    read_table,
    study_rows,
)
from comad.leaderboard.tables import figures
from comad.runs.place import FILES, results_folder
from comad.runs.record import Record, RecordError, read_record
from comad.runs.track import SAMPLE
from comad.sweep.complementary import SETTINGS
from comad.sweep.distillation import DATA, PAIRS, cells, name_of
from comad.sweep.grid import ABLATION_KIND, ABLATIONS, RANDOM, RECORDS, REFERENCE, TEACHERS
from comad.sweep.runner import Sweep
from comad.sweep.step import Step, SweepError
from comad.tasks.task import TASKS

ABLATIONS_FIGURE = ABLATIONS_CSV.with_suffix('.png')
# What a group is, its default, and its cells with what each does differently.
Group = tuple[str, str, Mapping[str, str]]


def study_csv(track: str) -> Path:
    """The table of a track's study; the sample's is kept in git."""
    return STUDY_CSV if track == SAMPLE else results_folder(track) / 'study.csv'


def finish_study(
    root: Path, steps: Iterable[Step], csv: Path = STUDY_CSV, track: str = SAMPLE
) -> list[str]:
    """Complete a study's table by the grid's records; return the reading, line by line.

    Rows of students and tasks that the grid does not hold stay as they are.

    Args:
        root: The home of records and results.
        steps: Of the grid.
        csv: The table, relative to ``root``.
        track: Whose records they are.

    Raises:
        SweepError: If a record of the grid is missing or refused; the CSV is then left as it was.
    """
    folder = results_folder(track) / 'records'
    records, refused = _records(root, steps, folder)
    for name, record in records.items():
        if record is None:
            reason = next((line for line in refused if name in line), 'it does not exist')
            raise SweepError(f'{folder / name} cannot be used: {reason}')
    rows = study_rows(records.values())
    try:
        table, kept, fewer = complete(read_table(root / csv), rows)
    except (ValueError, OSError) as error:
        raise SweepError(str(error)) from None
    write_text(root / csv, to_csv(table, STUDY_COLUMNS))
    told = [f'{kept} rows of {csv} are of an earlier run'] if kept else []
    if fewer:
        told.append(f'{fewer} of them are of more seeds than these runs, and stay for that')
    return [f'wrote {csv}', *read_study(rows), *told]


def finish_quickstart(root: Path, steps: Iterable[Step]) -> list[str]:
    """Return the tables, and one line of what they show; noise is that of the committed study."""
    from comad.leaderboard.outputs import format_table
    from comad.leaderboard.tables import make_leaderboards

    tables = make_leaderboards(SAMPLE).tables
    records, _ = _records(root, (step for step in steps if step.part in TASKS))
    rows = study_rows(filter(None, records.values()))
    shown = read_first_look(rows, read_table(FILES / STUDY_CSV))
    return [
        *(format_table(name, table) + '\n' for name, table in tables.items() if not table.empty),
        f'what they show, one seed each (>: by more than twice the sd over seeds in {STUDY_CSV}, '
        f'~: by less, ?: not measured there): {shown}',
    ]


def finish_ablations(root: Path, sweep: Sweep, seeds: int) -> list[str]:
    """Write results/sample_ablations.csv and .png from the runs that are there; return the reading.

    A record counts only if its step is done: one that an earlier config left, and a cell whose
    step failed, are missing.

    Raises:
        SweepError: If not one cell has a usable record; table and figure are then left alone.
    """
    records, _ = _records(root, filter(sweep.is_done, sweep.steps))
    usable = [record for record in records.values() if record is not None]
    rows = ablation_rows(usable, REFERENCE, ABLATIONS, ABLATION_KIND, seeds)
    if rows.empty:
        raise SweepError(f'no ablation has a record below {RECORDS}: nothing to write')
    written, told = _write(root, ABLATIONS_CSV, rows, ABLATION_COLUMNS)
    if written:
        draw_ablations(rows, root / ABLATIONS_FIGURE)
        told += f' and {ABLATIONS_FIGURE}'
    return [told, *read_ablations(rows)]


def finish_sample_check(root: Path, sweep: Sweep) -> list[str]:
    """Write results/sample_check.csv from the runs that are there; return the reading.

    Raises:
        SweepError: If none has a usable record; the table is then left alone.
    """
    records, _ = _records(root, filter(sweep.is_done, sweep.steps))
    rows = check_rows(filter(None, records.values()), RANDOM, TEACHERS)
    if not rows['gain'].any():
        raise SweepError(f'no teacher and random weights have a record below {RECORDS} yet')
    return [_write(root, SAMPLE_CHECK_CSV, rows, COLUMNS)[1], *read_check(rows)]


def finish_distillation(root: Path, sweep: Sweep, seeds: int) -> list[str]:
    """Write results/sample_distillation.csv from the runs that are there; return the reading.

    Each pair's default is the student trained alone, with the same seed.

    Raises:
        SweepError: If not one cell has a usable record; the table is then left alone.
    """
    groups = [
        (f'{teacher} -> {student}', name_of(Pair(ALONE, '', student)), cells(teacher, student))
        for teacher, student in PAIRS
    ]
    return _finish_groups(root, sweep, seeds, DATA, groups, DISTILLATION_CSV)


def finish_complementary(root: Path, sweep: Sweep, seeds: int) -> list[str]:
    """Write results/sample_complementary.csv from the runs that are there; return the reading.

    Each setting's default is CoMAD as it is, from the same teachers and with the same seed.

    Raises:
        SweepError: If not one cell has a usable record; the table is then left alone.
    """
    groups = [
        (
            setting.text,
            setting.student(REFERENCE),
            {setting.student(leaf): text for leaf, text in setting.cells.items()},
        )
        for setting in SETTINGS
    ]
    return _finish_groups(root, sweep, seeds, ABLATION_KIND, groups, COMPLEMENTARY_CSV)


def figure_of(root: Path, step: Step) -> str:
    """The first figure of a transfer, of its best pooling, as ``top1 48.3``; '' without one."""
    if step.part not in TASKS:
        return ''
    try:
        found = figures([read_record(root / step.outputs[0])]).dropna(subset='value')
    except (OSError, RecordError):  # the grid goes on: its tables say what is wrong
        return ''
    if found.empty:
        return ''
    own = found[found['metric'] == found['metric'].iat[0]]
    return f'{own["metric"].iat[0]} {own["value"].max():.1f}'


def _finish_groups(
    root: Path, sweep: Sweep, seeds: int, kind: str, groups: Sequence[Group], csv: Path
) -> list[str]:
    """One table of several groups of cells, each with a default of its own, and its reading."""
    records, _ = _records(root, filter(sweep.is_done, sweep.steps))
    usable = [record for record in records.values() if record is not None]
    tables, reading = [], []
    for text, default, cells_of in groups:
        rows = ablation_rows(usable, default, cells_of, kind, seeds)
        if not rows.empty:
            tables.append(rows)
            reading += [f'{text}:', *read_ablations(rows)]
    if not tables:
        raise SweepError(f'no {sweep.grid} has a record below {RECORDS}: nothing to write')
    return [_write(root, csv, concat(tables), ABLATION_COLUMNS)[1], *reading]


def _write(root: Path, csv: Path, rows: DataFrame, columns: Sequence[str]) -> tuple[bool, str]:
    """Write a table, unless a row of the one that is there would lose seeds; a line of it."""
    there: dict[tuple, int] = {}
    with suppress(OSError, ValueError, KeyError):  # none, or one that is damaged
        there = _seeds(read_cells(root / csv))
    now = _seeds(rows)
    if poorer := [cell for cell, seeds in there.items() if seeds > now.get(cell, 0)]:
        cell = poorer[0]
        return False, (
            f'{csv} stays: {" ".join(cell)} has {there[cell]} seeds there and {now.get(cell, 0)} '
            'in these runs; remove it to have these alone'
        )
    write_text(root / csv, to_csv(rows, columns))
    return True, f'wrote {csv}'


def _seeds(rows: DataFrame) -> dict[tuple, int]:
    """Seeds of every cell."""
    names = [name for name in ('cell', 'task', 'teacher', 'metric') if name in rows]
    counts = to_numeric(rows['n'], errors='coerce').fillna(0)
    return dict(zip(rows[names].itertuples(index=False, name=None), map(int, counts), strict=True))


def _records(
    root: Path, steps: Iterable[Step], folder: str | Path | None = None
) -> tuple[dict[str, Record | None], list[str]]:
    """File name -> record of every record among the steps' outputs, and why some are refused."""
    folder = str(folder or RECORDS)
    found = read_admitted(root / folder)
    accepted = {record.file: record for record in found.accepted}
    outputs = (output for step in steps for output in step.outputs if output.startswith(folder))
    return {
        name: accepted.get(name) for name in sorted(Path(o).name for o in outputs)
    }, found.refused
