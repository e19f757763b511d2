"""Teachers of the embedded sample: they come with it, or are trained anew and then come with it."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from backbones.names import meant
from comad.engine.run_config import PRETRAIN
from comad.engine.shipped import CARD, SEED, read_shipped, ship, shipped_folder, shipped_runs
from comad.runs.record import read_record
from comad.runs.track import SAMPLE
from comad.sweep import video
from comad.sweep.grid import TEACHERS, cells, resolved
from comad.sweep.step import Step, SweepError

# What tells what a teacher is worth: the judges of its frozen features.
PROBES = ('knn', 'linear')
FILES_OF = {**TEACHERS, video.TEACHER: Path(video.TEACHER_FILE).name}
PLACE_SECONDS = 2


def teachers(root: Path, methods: Sequence[str] = ()) -> list[Step]:
    """Return the data, the trainings of the sample's teachers and their probes, seed 0.

    Args:
        root: The repository.
        methods: Names such as ``mae_base``; only these, all by default.

    Raises:
        SweepError: An unknown teacher.
    """
    if unknown := [name for name in methods if name not in FILES_OF]:
        near = meant(unknown[0], FILES_OF)
        raise SweepError(f'--methods {unknown[0]}{near}: expected some of {", ".join(FILES_OF)}')
    chosen = methods or tuple(FILES_OF)
    steps: list[Step] = []
    if images := [name for name in chosen if name != video.TEACHER]:
        steps += cells(root, dict.fromkeys(PROBES, images), 1)
    if video.TEACHER in chosen:
        steps += [*video.teacher_steps(root), *video.probes(root)]
    return steps


def with_shipped(steps: Sequence[Step]) -> list[Step]:
    """The steps of a grid in which teachers that come with the sample are placed, not trained."""
    placed = {f'pretrain_{run}_p{SEED}': run for run in shipped_runs(SAMPLE)}
    return [_placed(step, placed[step.name]) if step.name in placed else step for step in steps]


def finish_teachers(root: Path, steps: Sequence[Step]) -> list[str]:
    """Make the teachers of a grid those that come with the sample; return what each is worth.

    Raises:
        RecordError: A probe's record is missing or malformed.
        ConfigError: A file is too large.
    """
    told = []
    for trained in (step for step in steps if step.part == PRETRAIN):
        run, probe = trained.student, {}
        for step in steps:
            if step.student == run and step is not trained:
                metrics = read_record(root / step.outputs[0]).metrics
                probe[step.part] = {name: round(value, 2) for name, value in metrics.items()}
        cfg = resolved(trained.command[2], SAMPLE)
        card = dict(family=cfg.run.method, arch=cfg.model.backbone.arch)
        card |= dict(command=' '.join(trained.command), probe=probe)
        folder = ship(run, SAMPLE, FILES_OF[run], card)
        told.append(f'{folder}: {probe}')
    return told


def _placed(step: Step, run: str) -> Step:
    """The step that leaves the same files without training."""
    folder = shipped_folder(run, SAMPLE)
    file, _ = read_shipped(run, SAMPLE)
    return replace(
        step,
        command=('python', 'tools/weights.py', 'place', run),
        needs=(),
        sources=(str(folder / file.name), str(folder / CARD)),
        seconds=PLACE_SECONDS,
        part='',
    )
