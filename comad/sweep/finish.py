"""What a finished study leaves: its CSV and its reading."""

from collections.abc import Iterable
from pathlib import Path

from comad.leaderboard.background import constant_miou
from comad.leaderboard.records import read_records
from comad.leaderboard.study import Reading, read_study, study_csv, study_rows
from comad.leaderboard.tables import write_text
from comad.sweep.grids import RECORDS
from comad.sweep.runner import SweepError
from comad.sweep.step import Step

STUDY_CSV = 'results/sample_study.csv'
ANNOTATIONS = 'data/sample/ade/ADEChallengeData2016/annotations/validation'
RENDERS = 'data/sample/imagenet/val'


def finish_study(root: Path, steps: Iterable[Step]) -> list[Reading]:
    """Write results/sample_study.csv from the grid's records and return the reading.

    Raises:
        SweepError: If a record of the grid is missing or refused, or lacks a needed figure; the
            CSV is then left as it was.
    """
    wanted = {
        Path(output).name for step in steps for output in step.outputs if output.startswith(RECORDS)
    }
    found = read_records(root / RECORDS)
    records = [record for record in found.accepted if record.file in wanted]
    if absent := sorted(wanted - {record.file for record in records}):
        reason = next((line for line in found.refused if absent[0] in line), 'it does not exist')
        raise SweepError(f'{RECORDS}/{absent[0]} cannot be used: {reason}')
    rows = study_rows(records)
    renders = sum(1 for _ in (root / RENDERS).glob('*/*.JPEG'))
    try:
        readings = read_study(rows, constant_miou(root / ANNOTATIONS), renders)
    except (ValueError, OSError) as error:
        raise SweepError(str(error)) from None
    write_text(root / STUDY_CSV, study_csv(rows))
    return readings
