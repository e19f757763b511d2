"""The several-seed study on the embedded sample: its steps, for all methods or chosen ones."""

from collections.abc import Sequence
from pathlib import Path

from comad.sweep.grids import (
    DENSE_STUDENTS,
    REFERENCE,
    RIVALS,
    SCRATCH,
    STUDY_KINDS,
    STUDY_STUDENTS,
    TEACHERS,
    equal_student,
    paired,
    pretrain,
    teacher_steps,
)
from comad.sweep.runner import SweepError
from comad.sweep.step import Step
from comad.tasks.task import TASKS


def study(
    root: Path,
    seeds: int,
    methods: Sequence[str] = (),
    kinds: Sequence[str] = STUDY_KINDS,
    equal: int = 0,
) -> list[Step]:
    """Return the steps of the study over ``seeds`` paired pretraining seeds.

    Pretraining seed P is transferred with seed P. Teachers are trained once, with seed 0. A
    student from scratch is drawn anew for every seed; a teacher is probed once per seed.

    Args:
        root: The repository.
        seeds: Paired seeds.
        methods: Names such as ``dmt``; only these are run, without scratch and teachers' probes
            unless named. All by default.
        kinds: Transfers, some of ``STUDY_KINDS``.
        equal: Give every method as much compute as this many runs of ``REFERENCE``, see
            ``comad.engine.equal_compute``; 0 leaves each its own length.

    Raises:
        SweepError: An unknown method or kind.
    """
    if unknown := [kind for kind in kinds if kind not in STUDY_KINDS]:
        raise SweepError(f'--tasks {unknown[0]}: expected some of {", ".join(STUDY_KINDS)}')
    students = _students(methods, equal)
    pretrained = [s for s in students if s != SCRATCH and s not in TEACHERS]
    steps = teacher_steps(root)
    if equal:
        # Their cards say what an epoch of each costs.
        steps += [pretrain(root, s, 0) for s in dict.fromkeys((REFERENCE, *pretrained))]
    for seed in range(seeds):
        steps += [pretrain(root, student, seed, equal) for student in pretrained]
    for seed in range(seeds):
        for kind in kinds:
            for student in students:
                if TASKS[kind].dense and student not in (*DENSE_STUDENTS, *RIVALS):
                    continue
                equalled = equal and student in pretrained
                name = equal_student(student, equal) if equalled else student
                steps.append(paired(root, kind, name, seed))
    return steps


def _students(methods: Sequence[str], equal: int) -> list[str]:
    known = [*STUDY_STUDENTS, *RIVALS, SCRATCH, *TEACHERS]
    if not methods:
        # What costs no pretraining of its own is the same on any budget.
        return [s for s in known if not equal or s in (*DENSE_STUDENTS, *RIVALS) and s != SCRATCH]
    chosen = [next((s for s in known if s in (m, f'{m}_tiny')), m) for m in methods]
    if unknown := [name for name in chosen if name not in known]:
        names = ', '.join(name.removesuffix('_tiny') for name in known)
        raise SweepError(f'--methods {unknown[0]}: expected some of {names}')
    return list(dict.fromkeys(chosen))
