"""What a finished study and a grid of ablations leave: a CSV, a figure and a reading."""

from collections.abc import Iterable
from pathlib import Path

from backbones.files import write_text
from comad.leaderboard.ablation_figure import draw_ablations
from comad.leaderboard.ablations import ablation_csv, ablation_rows, read_ablations
from comad.leaderboard.admission import read_admitted
from comad.leaderboard.background import constant_miou
from comad.leaderboard.study import Reading, beside, read_study, study_rows
from comad.leaderboard.study_table import complete, read_table, study_csv
from comad.sweep.ablations import CELLS, DEFAULT, KIND
from comad.sweep.grids import RECORDS
from comad.sweep.runner import Sweep, SweepError
from comad.sweep.step import Step

STUDY_CSV = 'results/sample_study.csv'
ABLATIONS_CSV = 'results/sample_ablations.csv'
ABLATIONS_FIGURE = 'results/sample_ablations.png'
ANNOTATIONS = 'data/sample/ade/ADEChallengeData2016/annotations/validation'
RENDERS = 'data/sample/imagenet/val'


def finish_study(root: Path, steps: Iterable[Step], whole: bool = True) -> list[Reading]:
    """Complete results/sample_study.csv by the grid's records and return the reading.

    Rows of students and tasks that the grid does not hold stay as they are.

    Args:
        root: The repository.
        steps: The grid's steps.
        whole: Whether the grid holds all methods and tasks, so that its conditions can be read;
            a part of it is only shown.

    Raises:
        SweepError: If a record of the grid is missing or refused, or lacks a needed figure; the
            CSV is then left as it was.
    """
    wanted = {
        Path(output).name for step in steps for output in step.outputs if output.startswith(RECORDS)
    }
    found = read_admitted(root / RECORDS)
    records = [record for record in found.accepted if record.file in wanted]
    if absent := sorted(wanted - {record.file for record in records}):
        reason = next((line for line in found.refused if absent[0] in line), 'it does not exist')
        raise SweepError(f'{RECORDS}/{absent[0]} cannot be used: {reason}')
    rows = study_rows(records)
    renders = sum(1 for _ in (root / RENDERS).glob('*/*.JPEG'))
    try:
        table, kept = complete(read_table(root / STUDY_CSV), rows)
        readings = (
            read_study(rows, constant_miou(root / ANNOTATIONS), renders) if whole else beside(rows)
        )
    except (ValueError, OSError) as error:
        raise SweepError(str(error)) from None
    write_text(root / STUDY_CSV, study_csv(table))
    if kept:
        readings.append(Reading(f'{kept} rows of {STUDY_CSV} are of an earlier run', None))
    return readings


def finish_ablations(root: Path, sweep: Sweep, seeds: int) -> list[str]:
    """Write results/sample_ablations.csv and .png from the runs that are there; return the reading.

    A record counts only if its step is done: one that an earlier config left, and a cell whose
    step failed, are missing.

    Raises:
        SweepError: If not one cell has a usable record; table and figure are then left alone.
    """
    wanted = {
        Path(step.outputs[0]).name
        for step in sweep.steps
        if step.outputs[0].startswith(RECORDS) and sweep.is_done(step)
    }
    found = read_admitted(root / RECORDS)
    records = [record for record in found.accepted if record.file in wanted]
    rows = ablation_rows(records, DEFAULT, CELLS, KIND, seeds)
    if not rows:
        raise SweepError(f'no ablation has a record below {RECORDS}: nothing to write')
    write_text(root / ABLATIONS_CSV, ablation_csv(rows))
    draw_ablations(rows, root / ABLATIONS_FIGURE)
    return read_ablations(rows)
