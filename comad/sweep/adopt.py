"""Steps that were run by hand or by a cluster: their outputs prove by themselves what made them."""

from pathlib import Path

from backbones.files import read_json
from comad.engine.options import ConfigError, RunOptions
from comad.engine.run_config import PRETRAIN, load_run_config
from comad.runs.place import FILES, pretrain_dir
from comad.runs.record import RecordError, read_record
from comad.sweep.grid import RANDOM, SCRATCH, resolved
from comad.sweep.step import Step, SweepError


def made_as_now(root: Path, step: Step, track: str) -> bool:
    """Return whether a step's outputs, which are there, are what it would make now.

    A student's card and a record name the digest of their config; a record also its student.

    Args:
        root: The home.
        step: Of a student, at its own length.
        track: What it is run on.
    """
    from backbones.student import CARD_FILE, track_of  # torch: the help need not wait for it

    words = list(step.command)
    if not step.part or '--compute-of' in words:
        return False
    try:
        if step.part == PRETRAIN:
            card = read_json(root / Path(step.outputs[0]).with_name(CARD_FILE))
            digest = resolved(words[2], track).run.digest
            return card.get('config_digest') == digest and track_of(card) == track
        record = read_record(root / step.outputs[0])
        student = words[words.index('--student') + 1] if '--student' in words else None
        options = RunOptions(str(FILES / words[2]), track=track, student=student)
        digest = load_run_config(options, check=False).run.digest
        of_config = record.config.digest == digest and record.track == track
        if step.student in (SCRATCH, RANDOM):
            return of_config
        card = pretrain_dir(track, step.student, record.seeds.pretrain) / CARD_FILE
        return of_config and read_json(root / card).get('sha256') == record.student.sha256
    except (OSError, ValueError, RecordError, ConfigError, SweepError):
        return False
