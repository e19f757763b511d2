"""The grids on the embedded sample: the quickstart, and the steps that all grids are made of.

All grids name a step after what it makes (``pretrain_comad_tiny_p0``,
``linear_comad_tiny_p0_s0``), so that one finds done what another has made.
"""

from collections.abc import Iterable
from pathlib import Path

from comad.engine.equal_compute import equal_method
from comad.sweep.step import Step, config_sources
from comad.tasks.task import FIGURE, TABLES, TASKS

WORK = 'work_dirs/sample'
RECORDS = 'results/sample/records'
OVERLAYS = 'base_configs/sample'

# Teachers, with the file name of their official checkpoint layout.
TEACHERS = {
    'mae_base': 'mae_pretrain_vit_base.pth',
    'mocov3_base': 'vit-b-300ep.pth.tar',
    'ibot_base': 'checkpoint_teacher.pth',
}
# Teachers that a student's pretraining reads; all others learn without. A test reads the configs.
TAUGHT_BY = {
    'comad_tiny': tuple(TEACHERS),
    'comad_uniform_tiny': tuple(TEACHERS),
    'comad_only_mae_tiny': ('mae_base',),
    'comad_only_mocov3_tiny': ('mocov3_base',),
    'comad_only_ibot_tiny': ('ibot_base',),
    'comad_affinity_tiny': tuple(TEACHERS),
    'comad_agreement_tiny': tuple(TEACHERS),
    'comad_pca_tiny': tuple(TEACHERS),
    'comad_student_subset_tiny': tuple(TEACHERS),
    'comad_no_map_tiny': tuple(TEACHERS),
    'comad_channel_tiny': tuple(TEACHERS),
    'dmt_tiny': tuple(TEACHERS),
    'dmt_mean_tiny': tuple(TEACHERS),
    'd_mae_lite_tiny': ('mae_base',),
    'hybrid_distill_tiny': ('mae_base', 'mocov3_base'),
    'amd_tiny': ('mae_base',),
}
SCRATCH = 'scratch_tiny'

# What the quickstart transfers. Shorten DENSE_STUDENTS if a dense run no longer fits its budget.
STUDENTS = ('comad_tiny', 'mae_tiny', SCRATCH)
DENSE_STUDENTS = ('comad_tiny', 'mae_tiny', SCRATCH)
STUDY_STUDENTS = (
    'comad_tiny',
    'mae_tiny',
    'comad_uniform_tiny',
    'comad_only_mae_tiny',
    'comad_only_mocov3_tiny',
    'comad_only_ibot_tiny',
)
# Methods of other papers.
RIVALS = ('dmt_tiny', 'dmt_mean_tiny', 'd_mae_lite_tiny', 'hybrid_distill_tiny', 'amd_tiny')
# Whose compute a study of equal cost hands out.
REFERENCE = 'comad_tiny'

STUDY_KINDS = tuple(task.kind for task in TASKS.values() if task.study)
SECONDS = {
    'data': 30,
    'mae_base': 190,
    'mocov3_base': 315,
    'ibot_base': 160,
}
STUDENT_SECONDS = 75
DATA_PROOFS = ('data/sample/manifest.json', 'data/sample/contact_sheet.png')
DATA_SOURCES = tuple(f'comad/data/sample/{name}.py' for name in ('write', 'scenes', 'layouts'))
LEADERBOARDS = tuple(f'results/sample/leaderboard_{name}.csv' for name in TABLES)


def quickstart(root: Path) -> list[Step]:
    """Return the steps from the sample's images to the leaderboards, one seed."""
    steps = teacher_steps(root)
    steps += [pretrain(root, s, 0) for s in STUDENTS if s != SCRATCH]
    cells = [
        transfer(root, task.kind, student, 0, 0)
        for task in TASKS.values()
        if task.seconds
        for student in (DENSE_STUDENTS if task.dense else STUDENTS)
    ]
    needs = tuple(step.name for step in cells)
    command = ('python', 'tools/leaderboard.py', '--sample')
    return [*steps, *cells, Step('leaderboard', command, LEADERBOARDS, needs, seconds=2)]


def transfer(root: Path, kind: str, student: str, pretrain_seed: int, seed: int) -> Step:
    """Return the step that transfers one student to one task.

    A student with a leaf of its own is run through it; any other through CoMAD's leaf, which
    differs from all others in the student alone.
    """
    task = TASKS[kind]
    leaf = task.leaf(student)
    own = (root / leaf).is_file()
    if not own:
        leaf = task.leaf('comad_tiny')
    command = ['python', 'tools/train.py', leaf, '--sample', '--seed', str(seed)]
    if not own or pretrain_seed:
        command += ['--student', f'{student}:{pretrain_seed}']
    run = f'pretrain{pretrain_seed}_seed{seed}' if pretrain_seed else f'seed{seed}'
    outputs = [f'{RECORDS}/{kind}_{student}_p{pretrain_seed}_s{seed}.json']
    if task.dense:
        outputs.append(f'{WORK}/{kind}/{student}/{run}/{FIGURE}')
    needs = ['data'] if student == SCRATCH else ['data', f'pretrain_{student}_p{pretrain_seed}']
    return Step(
        name=f'{kind}_{student}_p{pretrain_seed}_s{seed}',
        command=tuple(command),
        outputs=tuple(outputs),
        needs=tuple(needs),
        sources=_sources(root, leaf, task.folder),
        seconds=task.seconds or STUDENT_SECONDS,
    )


def paired(root: Path, kind: str, student: str, seed: int) -> Step:
    """Return the transfer with seed S of pretraining seed S; scratch and teachers have seed 0."""
    pretrain_seed = 0 if student == SCRATCH or student in TEACHERS else seed
    return transfer(root, kind, student, pretrain_seed, seed)


def _data() -> Step:
    command = ('python', 'tools/data.py', 'sample')
    return Step('data', command, DATA_PROOFS, sources=DATA_SOURCES, seconds=SECONDS['data'])


def teacher_steps(root: Path) -> list[Step]:
    """Return the steps that every grid begins with: the sample's images and the teachers."""
    return [_data(), *(pretrain(root, teacher, 0) for teacher in TEACHERS)]


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
    needs = ['data', *(f'pretrain_{teacher}_p0' for teacher in TAUGHT_BY.get(student, ()))]
    if equal:
        command += ['--compute-of', f'{REFERENCE}:{equal}']
        needs += dict.fromkeys(f'pretrain_{name}_p0' for name in (REFERENCE, student))
        student = equal_student(student, equal)
    run = f'{WORK}/pretrain/{student}/seed{seed}'
    outputs = [f'{run}/student.safetensors', f'{run}/student.json']
    if student in TEACHERS:
        outputs.append(f'{run}/{TEACHERS[student]}')
    return Step(
        name=f'pretrain_{student}_p{seed}',
        command=tuple(command),
        outputs=tuple(outputs),
        needs=tuple(needs),
        sources=_sources(root, leaf, 'pretrain'),
        seconds=SECONDS.get(student, STUDENT_SECONDS * max(equal, 1)),
    )


def equal_student(student: str, equal: int) -> str:
    """Return the name of a student that is trained on ``equal`` budgets of ``REFERENCE``."""
    method, arch = student.rsplit('_', 1)
    return f'{equal_method(method, equal)}_{arch}'


def _sources(root: Path, leaf: str, overlay: str) -> tuple[str, ...]:
    files: Iterable[str] = (
        *config_sources(root, leaf),
        *config_sources(root, f'{OVERLAYS}/{overlay}.py'),
    )
    return tuple(dict.fromkeys(files))
