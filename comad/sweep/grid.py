"""The grids: cells of tasks x students x seeds on a track, as steps.

Every grid names a step after what it makes (``pretrain_comad_tiny_p0``,
``linear_comad_tiny_p0_s0``), so that one finds done what another has made. What a step needs is
read from the config that it will run.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

from backbones.names import meant
from comad.engine.options import ConfigError, RunOptions
from comad.engine.paths import SAMPLE_TEACHERS, needed_paths, starting_file
from comad.engine.run_config import PRETRAIN, load_run_config
from comad.engine.shipped import run_of
from comad.runs.place import (
    FILES,
    equal_method,
    get_track,
    pretrain_dir,
    results_folder,
    runs_folder,
)
from comad.runs.track import SAMPLE, Track
from comad.sweep.step import Step, SweepError, config_sources
from comad.tasks.protocol import recipe_processes
from comad.tasks.task import FIGURE, TABLES, TASKS

WORK = 'work_dirs/sample'
RECORDS = 'results/sample/records'

# The runs that stand in for official teachers, with the name of the official file.
TEACHERS = {student: Path(file).name for file, student in SAMPLE_TEACHERS.items()}
SCRATCH = 'scratch_tiny'
# Of the teachers' size, with random weights too.
RANDOM = 'scratch_base'
# Whose leaves every student is transferred by, and whose compute a study of equal cost hands out.
REFERENCE = 'comad_tiny'
# What the quickstart transfers, and the teacher that it shows beside them in its shortest task.
FIRST_LOOK, UPPER_BOUND = (REFERENCE, SCRATCH), 'mocov3_base'
# Methods of other papers.
RIVALS = (
    *('mae_tiny', 'dmt_tiny', 'dmt_mean_tiny'),
    *('d_mae_lite_tiny', 'hybrid_distill_tiny', 'amd_tiny'),
)
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
# The study has the first four of them, and these two in dense tasks too.
WHOLLY_STUDIED = ('comad_only_mocov3_tiny', 'comad_uniform_tiny')
STUDY_STUDENTS = (REFERENCE, *RIVALS, *list(ABLATIONS)[:4], SCRATCH, *TEACHERS)
STUDY_KINDS = tuple(task.kind for task in TASKS.values() if task.study)

# Expected durations; a student's and those of tasks stand below and in the tasks' files.
SECONDS = {'data': 18, 'mae_base': 4500, 'mocov3_base': 11_000, 'ibot_base': 1200}
STUDENT_SECONDS = 65
DATA_PROOFS = ('data/sample/manifest.json', 'data/sample/contact_sheet.png')
DATA_SOURCES = tuple(
    f'comad/data/sample/{name}.py' for name in ('write', 'scenes', 'patterns', 'digits', 'layouts')
)
LEADERBOARDS = tuple(f'results/sample/leaderboard_{name}.csv' for name in TABLES)


def quickstart(root: Path) -> list[Step]:
    """Return the steps from the sample's images to the leaderboards, one seed."""
    kinds = [task.kind for task in TASKS.values() if task.seconds]
    first = min(kinds, key=lambda kind: TASKS[kind].seconds)  # a row to look at soon
    steps = cells(root, dict.fromkeys(kinds, FIRST_LOOK), 1)
    steps = [replace(step, early=step.part == first) for step in steps]
    steps.append(transfer(root, first, UPPER_BOUND, 0, 0))
    needs = tuple(step.name for step in steps if step.part in kinds)
    command = ('python', 'tools/leaderboard.py', '--sample')
    return [*steps, Step('leaderboard', command, LEADERBOARDS, needs, seconds=2)]


def sample_check(root: Path, seeds: int) -> list[Step]:
    """Return the transfers of the sample's teachers and of random weights of their size."""
    from comad.leaderboard.sample_check import NEEDED

    return cells(root, dict.fromkeys(NEEDED, (RANDOM, *TEACHERS)), seeds)


def ablations(root: Path, seeds: int) -> list[Step]:
    """Return the steps of CoMAD and of its ablations, each probed linearly with every seed.

    Seed S of every cell starts from the student and the order of images of seed S of the default,
    and mostly from its crops and masks too, so differences are taken within a seed.
    """
    return cells(root, {ABLATION_KIND: (REFERENCE, *ABLATIONS)}, seeds)


def study_kinds(track: Track) -> tuple[str, ...]:
    """Kinds of a track's study: those that it names, else all that its networks are transferred to.

    On the embedded sample these are those with a column in its table.
    """
    if track.stand_ins:
        return STUDY_KINDS
    return track.tasks or _kinds_of_leaves()


def _kinds_of_leaves() -> tuple[str, ...]:
    """Kinds of tasks that the reference has a leaf of, without other papers' protocols."""
    whole = (task for task in TASKS.values() if not task.variant_of)
    return tuple(task.kind for task in whole if (FILES / task.leaf(REFERENCE)).is_file())


def study(
    root: Path,
    seeds: int,
    methods: Sequence[str] = (),
    kinds: Sequence[str] = (),
    equal: int = 0,
    track: str = SAMPLE,
) -> list[Step]:
    """Return the steps of the study over ``seeds`` paired pretraining seeds.

    Args:
        root: The repository.
        seeds: Paired seeds.
        methods: Names such as ``dmt``; only these are run, without scratch and teachers' probes
            unless named. All by default.
        kinds: Transfers, some of `study_kinds`; all by default, on the embedded sample without
            the dense ones of some ablations.
        equal: Give every method as much compute as this many runs of ``REFERENCE``, see
            ``comad.engine.equal_compute``; 0 leaves each its own length.
        track: What is run on.

    Raises:
        SweepError: An unknown method or kind.
    """
    of_track = get_track(track)
    known = study_kinds(of_track)
    whole = known if of_track.stand_ins else _kinds_of_leaves()
    if unknown := [kind for kind in kinds if kind not in whole]:
        near = meant(unknown[0], whole)
        raise SweepError(f'--tasks {unknown[0]}{near}: expected some of {", ".join(whole)}')
    # Full-scale teachers are files from elsewhere: what they are worth is published.
    own = of_track.students or STUDY_STUDENTS
    own = own if of_track.stand_ins else [s for s in own if s not in TEACHERS]
    any_leaf = [path.stem for path in sorted((FILES / 'pretrain_configs').glob('*_tiny.py'))]
    students = tuple(dict.fromkeys((*own, *any_leaf)))
    chosen = [next((s for s in students if s in (m, f'{m}_tiny')), m) for m in methods]
    if unknown := [name for name in chosen if name not in students]:
        names = [name.removesuffix('_tiny') for name in students]
        near = meant(unknown[0], names)
        raise SweepError(f'--methods {unknown[0]}{near}: expected some of {", ".join(names)}')
    everywhere = (REFERENCE, *RIVALS, SCRATCH)
    # What costs no pretraining of its own is the same on any budget.
    every = [s for s in own if s in everywhere and s != SCRATCH] if equal else own
    students = tuple(dict.fromkeys(chosen)) or tuple(every)
    wholly = (*everywhere, *WHOLLY_STUDIED, *TEACHERS)
    dense = [s for s in students if kinds or not of_track.stand_ins or s in wholly]
    transfers = {kind: dense if TASKS[kind].dense else students for kind in kinds or known}
    return cells(root, transfers, seeds, equal, track)


def cells(
    root: Path,
    transfers: Mapping[str, Sequence[str]],
    seeds: int,
    equal: int = 0,
    track: str = SAMPLE,
) -> list[Step]:
    """Return what the track makes itself, images and teachers, then pretrainings and transfers.

    Pretraining seed P is transferred with seed P. Teachers are trained once, with seed 0. A
    student from scratch is drawn anew for every seed; a teacher is probed once per seed.

    Args:
        root: The repository.
        transfers: Kind of task -> students.
        seeds: Paired seeds.
        equal: See :func:`study`.
        track: See :func:`study`.
    """
    students = dict.fromkeys(student for chosen in transfers.values() for student in chosen)
    trained = [student for student in students if student not in (SCRATCH, RANDOM, *TEACHERS)]
    command = ('python', 'tools/data.py', 'sample')
    steps = [Step('data', command, DATA_PROOFS, sources=DATA_SOURCES, seconds=SECONDS['data'])]
    if not get_track(track).stand_ins:
        steps = []
    priced = (REFERENCE,) if equal and trained else ()
    taught = {name for one in (*priced, *trained) for name in teachers_of(one, track)}
    made = dict.fromkeys((*TEACHERS, *sorted(taught)))
    steps += [pretrain(root, t, 0, track=track) for t in made if t in taught.union(students)]
    if equal:
        # Their cards say what an epoch of each costs.
        first = dict.fromkeys((*priced, *trained))
        steps += [pretrain(root, student, 0, track=track) for student in first]
    for seed in range(seeds):
        steps += [pretrain(root, student, seed, equal, track) for student in trained]
    steps = list({step.name: step for step in steps}.values())
    for seed in range(seeds):
        for kind, chosen in transfers.items():
            for student in chosen:
                own = student in trained
                name = equal_student(student, equal) if own and equal else student
                steps.append(transfer(root, kind, name, seed if own else 0, seed, track))
    return steps


def transfer(
    root: Path, kind: str, student: str, pretrain_seed: int, seed: int, track: str = SAMPLE
) -> Step:
    """Return the step that transfers one student to one task."""
    task, of_track = TASKS[kind], get_track(track)
    leaf = task.leaf(REFERENCE)
    command = ['python', 'tools/train.py', leaf, *of_track.option.split(), '--seed', str(seed)]
    if (student, pretrain_seed) != (REFERENCE, 0):  # whom the leaf itself names
        command += ['--student', f'{student}:{pretrain_seed}']
    run = f'pretrain{pretrain_seed}_seed{seed}' if pretrain_seed else f'seed{seed}'
    name = f'{kind}_{student}_p{pretrain_seed}_s{seed}'
    folder = runs_folder(track) / kind / student / run
    figures = [str(folder / FIGURE)] if task.dense else []
    needs = [] if student in (SCRATCH, RANDOM) else [f'pretrain_{student}_p{pretrain_seed}']
    return Step(
        name=name,
        command=tuple(command),
        outputs=(str(results_folder(track) / 'records' / f'{name}.json'), *figures),
        needs=(*_data(of_track), *needs),
        sources=config_sources(root, leaf, *_overlay(of_track, task.folder)),
        seconds=(task.seconds or STUDENT_SECONDS) * (2 if student in (RANDOM, *TEACHERS) else 1),
        student=student,
        part=kind,
        **_outside(leaf, of_track),
    )


def pretrain(root: Path, student: str, seed: int, equal: int = 0, track: str = SAMPLE) -> Step:
    """Return the step that pretrains one student, or a teacher.

    Args:
        root: The repository.
        student: Name of the student's config.
        seed: Seed of the run.
        equal: Train for as much compute as this many runs of ``REFERENCE``; 0 for its own length.
        track: See :func:`study`.
    """
    leaf, of_track = f'pretrain_configs/{student}.py', get_track(track)
    command = ['python', 'tools/train.py', leaf, *of_track.option.split(), '--seed', str(seed)]
    needs = [f'pretrain_{teacher}_p0' for teacher in teachers_of(student, track)]
    seconds = SECONDS.get(student, STUDENT_SECONDS * max(equal, 1))
    proofs = ['student.safetensors', 'student.json']
    proofs += [TEACHERS[student]] if of_track.stand_ins and student in TEACHERS else []
    if equal:
        command += ['--compute-of', f'{REFERENCE}:{equal}']
        needs += dict.fromkeys(f'pretrain_{name}_p0' for name in (REFERENCE, student))
        student = equal_student(student, equal)
    return Step(
        name=f'pretrain_{student}_p{seed}',
        command=tuple(command),
        outputs=tuple(str(pretrain_dir(track, student, seed) / proof) for proof in proofs),
        needs=(*_data(of_track), *needs),
        sources=config_sources(root, leaf, *_overlay(of_track, 'pretrain')),
        seconds=seconds,
        student=student,
        part=PRETRAIN,
        **_outside(leaf, of_track),
    )


def teachers_of(student: str, track: str) -> tuple[str, ...]:
    """Return the track's runs whose files a pretraining reads, as teachers or to start from.

    Raises:
        SweepError: A teacher that a track of stand-ins has none for.
    """
    leaf, of_track = f'pretrain_configs/{student}.py', get_track(track)
    cfg = resolved(leaf, track)
    files = [teacher['checkpoint'] for teacher in cfg.model.get('teachers') or ()]
    files += filter(None, [starting_file(cfg)])
    runs = {file: run_of(file, of_track) for file in files}
    if of_track.stand_ins and not all(runs.values()):
        file = next(file for file, run in runs.items() if not run)
        raise SweepError(f'{leaf}: the sample has no stand-in for {file}')
    return tuple(dict.fromkeys(filter(None, runs.values())))


@cache
def resolved(leaf: str, track: str) -> Any:
    """Return the config that a leaf's own run has on a track.

    Raises:
        SweepError: It cannot be read, or is no part of the track.
    """
    try:
        return load_run_config(RunOptions(str(FILES / leaf), track=track), check=False)
    except ConfigError as error:
        raise SweepError(str(error)) from None


def _data(track: Track) -> tuple[str, ...]:
    """The step that makes a track's images, where one does."""
    return ('data',) if track.stand_ins else ()


def _overlay(track: Track, folder: str) -> tuple[str, ...]:
    """What a leaf's outcome depends on besides."""
    overlay = track.overlay(folder)
    return () if overlay is None else (str(overlay),)


def _outside(leaf: str, track: Track) -> dict[str, Any]:
    """What a step reads that no step makes, and its processes; a track of stand-ins makes all."""
    if track.stand_ins:
        return {}
    cfg = resolved(leaf, track.name)
    paths = needed_paths(cfg, track).items()
    files = ((str(path), line) for path, line in paths if not run_of(path, track))
    return dict(files=tuple(files), processes=recipe_processes(cfg._cfg_dict))


def equal_student(student: str, equal: int) -> str:
    """Return the name of a student that is trained on ``equal`` budgets of ``REFERENCE``."""
    method, arch = student.rsplit('_', 1)
    return f'{equal_method(method, equal)}_{arch}'
