"""The grids on the embedded sample: cells of tasks x students x seeds, as steps.

Every grid names a step after what it makes (``pretrain_comad_tiny_p0``,
``linear_comad_tiny_p0_s0``), so that one finds done what another has made.
"""

from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path

from comad.engine.equal_compute import equal_method
from comad.engine.paths import SAMPLE_TEACHERS
from comad.engine.run_config import parse_config
from comad.sweep.step import Step, SweepError, config_sources
from comad.tasks.task import FIGURE, TABLES, TASKS

WORK = 'work_dirs/sample'
RECORDS = 'results/sample/records'

# The runs that stand in for official teachers, with the name of the official file.
TEACHERS = {student: Path(file).name for file, student in SAMPLE_TEACHERS.items()}
SCRATCH = 'scratch_tiny'
# Whose leaves every student is transferred by, and whose compute a study of equal cost hands out.
REFERENCE = 'comad_tiny'
# What the quickstart transfers.
STUDENTS = (REFERENCE, 'mae_tiny', SCRATCH)
# Methods of other papers.
RIVALS = ('dmt_tiny', 'dmt_mean_tiny', 'd_mae_lite_tiny', 'hybrid_distill_tiny', 'amd_tiny')
# CoMAD's ablations, each with its one difference from it.
ABLATIONS = {
    'comad_only_mae_tiny': 'MAE is the only teacher',
    'comad_only_mocov3_tiny': 'MoCo v3 is the only teacher',
    'comad_only_ibot_tiny': 'iBOT is the only teacher',
    'comad_uniform_tiny': "gate='uniform' instead of 'sum'",
    'comad_affinity_tiny': "gate='affinity_only' instead of 'sum'",
    'comad_agreement_tiny': "gate='agreement_only' instead of 'sum'",
    'comad_pca_tiny': "align='pca' instead of 'procrustes'",
    'comad_student_subset_tiny': "masks='student_subset' instead of 'chain'",
    'comad_no_map_tiny': 'map_weight=0 instead of 1',
    'comad_channel_tiny': "map_axis='channel' instead of 'spatial'",
}
ABLATION_KIND = 'linear'
# The study has the first four of them, in tasks that are not dense.
STUDY_STUDENTS = (*STUDENTS[:2], *list(ABLATIONS)[:4], *RIVALS, SCRATCH, *TEACHERS)
STUDY_KINDS = tuple(task.kind for task in TASKS.values() if task.study)

# Expected durations; a student's and those of tasks stand below and in the tasks' files.
SECONDS = {'data': 30, 'mae_base': 190, 'mocov3_base': 315, 'ibot_base': 160}
STUDENT_SECONDS = 75
DATA_PROOFS = ('data/sample/manifest.json', 'data/sample/contact_sheet.png')
DATA_SOURCES = tuple(f'comad/data/sample/{name}.py' for name in ('write', 'scenes', 'layouts'))
LEADERBOARDS = tuple(f'results/sample/leaderboard_{name}.csv' for name in TABLES)


def quickstart(root: Path) -> list[Step]:
    """Return the steps from the sample's images to the leaderboards, one seed."""
    kinds = [task.kind for task in TASKS.values() if task.seconds]
    steps = cells(root, dict.fromkeys(kinds, STUDENTS), 1)
    needs = tuple(step.name for step in steps if step.name.startswith(tuple(kinds)))
    command = ('python', 'tools/leaderboard.py', '--sample')
    return [*steps, Step('leaderboard', command, LEADERBOARDS, needs, seconds=2)]


def ablations(root: Path, seeds: int) -> list[Step]:
    """Return the steps of CoMAD and of its ablations, each probed linearly with every seed.

    Seed S of every cell starts from the student and the order of images of seed S of the default,
    and mostly from its crops and masks too, so differences are taken within a seed.
    """
    return cells(root, {ABLATION_KIND: (REFERENCE, *ABLATIONS)}, seeds)


def study(
    root: Path,
    seeds: int,
    methods: Sequence[str] = (),
    kinds: Sequence[str] = STUDY_KINDS,
    equal: int = 0,
) -> list[Step]:
    """Return the steps of the study over ``seeds`` paired pretraining seeds.

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
    chosen = [next((s for s in STUDY_STUDENTS if s in (m, f'{m}_tiny')), m) for m in methods]
    if unknown := [name for name in chosen if name not in STUDY_STUDENTS]:
        names = ', '.join(name.removesuffix('_tiny') for name in STUDY_STUDENTS)
        raise SweepError(f'--methods {unknown[0]}: expected some of {names}')
    everywhere = (*STUDENTS, *RIVALS)
    # What costs no pretraining of its own is the same on any budget.
    every = [s for s in everywhere if s != SCRATCH] if equal else STUDY_STUDENTS
    students = tuple(dict.fromkeys(chosen)) or every
    dense = [student for student in students if student in everywhere]
    transfers = {kind: dense if TASKS[kind].dense else students for kind in kinds}
    return cells(root, transfers, seeds, equal)


def cells(
    root: Path, transfers: Mapping[str, Sequence[str]], seeds: int, equal: int = 0
) -> list[Step]:
    """Return images and teachers, then pretrainings and transfers seed by seed.

    Pretraining seed P is transferred with seed P. Teachers are trained once, with seed 0. A
    student from scratch is drawn anew for every seed; a teacher is probed once per seed.

    Args:
        root: The repository.
        transfers: Kind of task -> students.
        seeds: Paired seeds.
        equal: See :func:`study`.
    """
    students = dict.fromkeys(student for chosen in transfers.values() for student in chosen)
    trained = [student for student in students if student not in (SCRATCH, *TEACHERS)]
    command = ('python', 'tools/data.py', 'sample')
    steps = [Step('data', command, DATA_PROOFS, sources=DATA_SOURCES, seconds=SECONDS['data'])]
    steps += [pretrain(root, teacher, 0) for teacher in TEACHERS]
    if equal:
        # Their cards say what an epoch of each costs.
        steps += [pretrain(root, s, 0) for s in dict.fromkeys((REFERENCE, *trained))]
    for seed in range(seeds):
        steps += [pretrain(root, student, seed, equal) for student in trained]
    for seed in range(seeds):
        for kind, chosen in transfers.items():
            for student in chosen:
                own = student in trained
                name = equal_student(student, equal) if own and equal else student
                steps.append(transfer(root, kind, name, seed if own else 0, seed))
    return steps


def transfer(root: Path, kind: str, student: str, pretrain_seed: int, seed: int) -> Step:
    """Return the step that transfers one student to one task."""
    task = TASKS[kind]
    leaf = task.leaf(REFERENCE)
    command = ['python', 'tools/train.py', leaf, '--sample', '--seed', str(seed)]
    if (student, pretrain_seed) != (REFERENCE, 0):  # whom the leaf itself names
        command += ['--student', f'{student}:{pretrain_seed}']
    run = f'pretrain{pretrain_seed}_seed{seed}' if pretrain_seed else f'seed{seed}'
    name = f'{kind}_{student}_p{pretrain_seed}_s{seed}'
    figures = [f'{WORK}/{kind}/{student}/{run}/{FIGURE}'] if task.dense else []
    needs = [] if student == SCRATCH else [f'pretrain_{student}_p{pretrain_seed}']
    return Step(
        name=name,
        command=tuple(command),
        outputs=(f'{RECORDS}/{name}.json', *figures),
        needs=('data', *needs),
        sources=config_sources(root, leaf, f'base_configs/tracks/sample/{task.folder}.py'),
        seconds=task.seconds or STUDENT_SECONDS,
    )


def pretrain(root: Path, student: str, seed: int, equal: int = 0) -> Step:
    """Return the step that pretrains one student, or a teacher.

    Args:
        root: The repository.
        student: Name of the student's config.
        seed: Seed of the run.
        equal: Train for as much compute as this many runs of ``REFERENCE``; 0 for its own length.
    """
    leaf = f'pretrain_configs/{student}.py'
    command = ['python', 'tools/train.py', leaf, '--sample', '--seed', str(seed)]
    needs = [f'pretrain_{teacher}_p0' for teacher in teachers_of(root / leaf)]
    seconds = SECONDS.get(student, STUDENT_SECONDS * max(equal, 1))
    proofs = ['student.safetensors', 'student.json']
    proofs += [TEACHERS[student]] if student in TEACHERS else []
    if equal:
        command += ['--compute-of', f'{REFERENCE}:{equal}']
        needs += dict.fromkeys(f'pretrain_{name}_p0' for name in (REFERENCE, student))
        student = equal_student(student, equal)
    return Step(
        name=f'pretrain_{student}_p{seed}',
        command=tuple(command),
        outputs=tuple(f'{WORK}/pretrain/{student}/seed{seed}/{proof}' for proof in proofs),
        needs=('data', *needs),
        sources=config_sources(root, leaf, 'base_configs/tracks/sample/pretrain.py'),
        seconds=seconds,
    )


@cache
def teachers_of(leaf: Path) -> tuple[str, ...]:
    """Return the runs whose files are a pretraining's teachers on the sample, read from its config.

    Raises:
        SweepError: A teacher that the sample has no stand-in for.
    """
    named = [teacher['checkpoint'] for teacher in parse_config(leaf).model.get('teachers') or ()]
    if unknown := [file for file in named if file not in SAMPLE_TEACHERS]:
        raise SweepError(f'{leaf}: the sample has no stand-in for {unknown[0]}')
    return tuple(dict.fromkeys(SAMPLE_TEACHERS[file] for file in named))


def equal_student(student: str, equal: int) -> str:
    """Return the name of a student that is trained on ``equal`` budgets of ``REFERENCE``."""
    method, arch = student.rsplit('_', 1)
    return f'{equal_method(method, equal)}_{arch}'
