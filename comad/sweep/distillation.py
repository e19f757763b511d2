"""The study of distillation on the embedded sample: two pairs, methods, terms of FBT, paired seeds.

In one pair attention teaches a CNN, in the other a CNN teaches attention, so that FBT fuses in both
directions. Teachers are trained once, with seed 0, by labels alone, longer than the students.
"""

from pathlib import Path

from comad.engine.distillation import ALONE, Pair, recipe_leaf
from comad.runs.place import FILES
from comad.sweep.grid import DATA_PROOFS, DATA_SOURCES, RECORDS, SECONDS, WORK
from comad.sweep.step import Step, config_sources

DATA = 'cifar100'
PAIRS = (('swin_tiny', 'resnet18'), ('convnext_tiny', 'deit_tiny'))
# What differs from the student trained alone.
METHODS = {
    'kd': 'KD',
    'ofa': 'OFA-KD',
    'fbt': 'FBT',
    'fbt_no_ts': 'FBT without L(t, s)',
    'fbt_no_tf': 'FBT without L(t, f)',
    'fbt_no_fs': 'FBT without L(f, s)',
    'fbt_no_nce': 'FBT without InfoNCE',
    'fbt_no_ofa': 'FBT without the loss on logits',
    'fbt_detached': 'FBT, the fusion detached in L(f, s)',
}
# Of one training on one core, by its network.
STEP_SECONDS = {'resnet18': 80, 'deit_tiny': 40, 'swin_tiny': 220, 'convnext_tiny': 150}


def distillation(root: Path, seeds: int) -> list[Step]:
    """Return images and teachers, then students seed by seed."""
    made = [teacher_step(root, DATA, teacher) for teacher, _ in PAIRS]
    for seed in range(seeds):
        for teacher, student in PAIRS:
            for pair in (Pair(ALONE, '', student), *(Pair(m, teacher, student) for m in METHODS)):
                made.append(_run(root, DATA, pair, seed))
    return [data_step(), *made]


def data_step() -> Step:
    """Return the step that writes the sample's images."""
    command = ('python', 'tools/data.py', 'sample')
    return Step('data', command, DATA_PROOFS, sources=DATA_SOURCES, seconds=SECONDS['data'])


def teacher_step(root: Path, data: str, teacher: str) -> Step:
    """Return the step that trains a teacher, whose file is its first output."""
    return _run(root, data, Pair(ALONE, '', teacher), 0)


def cells(teacher: str, student: str) -> dict[str, str]:
    """The students of a pair, by name, each with what it is."""
    return {name_of(Pair(m, teacher, student)): text for m, text in METHODS.items()}


def name_of(pair: Pair, data: str = DATA) -> str:
    """A student's name in records."""
    return f'{data}_{pair.name}_{pair.student}'


def _run(root: Path, data: str, pair: Pair, seed: int) -> Step:
    leaf = str(Path(recipe_leaf(data, pair.student)).relative_to(FILES))
    student = name_of(pair, data)
    command = ['python', 'tools/train.py', leaf, '--sample', '--seed', str(seed)]
    if Path(leaf).stem != student:
        command += ['--student', f'{pair.name}_{pair.student}']
    folder = f'{WORK}/pretrain/{student}/seed{seed}'
    taught = [f'distil_{name_of(Pair(ALONE, "", pair.teacher), data)}_p0'] if pair.teacher else []
    sources = (leaf, 'base_configs/tracks/sample/distill.py', 'base_configs/distill_methods.py')
    return Step(
        name=f'distil_{student}_p{seed}',
        command=tuple(command),
        outputs=(
            *(f'{folder}/{proof}' for proof in ('student.safetensors', 'student.json')),
            f'{RECORDS}/{data}_{student}_p{seed}_s{seed}.json',
        ),
        needs=('data', *taught),
        sources=config_sources(root, *sources),
        seconds=STEP_SECONDS.get(pair.student, 80),
    )
