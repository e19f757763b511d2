"""What CoMAD's gate is worth where no teacher knows all classes, on the embedded sample.

Teachers are random networks taught by labels, each on some of the classes alone, so that they
complete each other by construction. Of two halves one teacher knows a class; of three, each without
another third, two do, who could outvote the one that does not.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from comad.runs.place import pretrain_dir
from comad.runs.track import SAMPLE
from comad.sweep.distillation import data_step
from comad.sweep.grid import ABLATION_KIND, RANDOM, REFERENCE, STUDENT_SECONDS, WORK, transfer
from comad.sweep.step import Step, config_sources

LEAF = 'cls_configs/finetune_comad_tiny.py'
LISTS = 'comad/data/classes'
OVERLAYS = {part: f'base_configs/tracks/sample/{part}.py' for part in ('cls', 'pretrain')}
# At 12 epochs a network tells 77 % of the validation images of six classes.
EPOCHS = 16
SECONDS_PER_CLASS = 45


@dataclass(frozen=True)
class Setting:
    """Teachers that complete each other, and what learns from them.

    Attributes:
        text: what the teachers know.
        lists: per teacher the list of its classes, see `comad.data.subset.read_classes_of`.
        cells: leaf -> what it does differently from the first.
    """

    text: str
    lists: tuple[str, ...]
    cells: Mapping[str, str]

    def student(self, leaf: str) -> str:
        """A student's name in records: that of ``leaf`` with these teachers."""
        method, arch = leaf.rsplit('_', 1)
        return '_'.join((method, 'from', *('mae' for _ in self.lists), arch))


SETTINGS = (
    Setting(
        'two teachers, each of one half of the classes',
        ('sample-first-half', 'sample-second-half'),
        {'comad_uniform_tiny': "gate='uniform' instead of 'sum'"},
    ),
    Setting(
        'three teachers, each without another third of the classes',
        ('sample-not-first-third', 'sample-not-second-third', 'sample-not-last-third'),
        {
            'comad_uniform_tiny': "gate='uniform' instead of 'sum'",
            'comad_affinity_tiny': "gate='affinity_only' instead of 'sum'",
            'comad_agreement_tiny': "gate='agreement_only' instead of 'sum'",
        },
    ),
)


def complementary(root: Path, seeds: int) -> list[Step]:
    """Return images and teachers, then students and their linear probes seed by seed."""
    steps = [data_step()]
    for setting in SETTINGS:
        steps += [_teach(root, name, number) for number, name in enumerate(setting.lists)]
    for seed in range(seeds):
        for setting in SETTINGS:
            for leaf in (REFERENCE, *setting.cells):
                steps.append(_learn(root, setting, leaf, seed))
                steps.append(transfer(root, ABLATION_KIND, setting.student(leaf), seed, seed))
    return steps


def _file(classes: str) -> str:
    return f'{WORK}/complementary/{classes}/epoch_{EPOCHS}.pth'


def _teach(root: Path, classes: str, seed: int) -> Step:
    """The step that trains a teacher, of the size of the sample's, by the labels of a list."""
    from comad.data.subset import read_classes_of  # numpy: no --help waits for it

    file, count = Path(_file(classes)), len(read_classes_of(classes))
    loaders = [f'{part}_dataloader.dataset.classes={classes}' for part in ('train', 'val', 'test')]
    length = [f'train_cfg.max_epochs={EPOCHS}', f'train_cfg.val_interval={EPOCHS}']
    length += [f'default_hooks.checkpoint.interval={EPOCHS}']
    command = ('python', 'tools/train.py', LEAF, '--sample', '--seed', str(seed))
    command += ('--student', RANDOM, '--work-dir', str(file.parent), '--cfg-options', *loaders)
    command += ('train_dataloader.dataset.subset=None', f'model.num_classes={count}', *length)
    record = f'{file.parent}/records/finetune_{RANDOM}_p0_s{seed}.json'
    return Step(
        name=f'teach_{classes}',
        command=command,
        outputs=(str(file), record),
        needs=('data',),
        sources=(*config_sources(root, LEAF, OVERLAYS['cls']), f'{LISTS}/{classes}.txt'),
        seconds=SECONDS_PER_CLASS * count,
    )


def _learn(root: Path, setting: Setting, leaf: str, seed: int) -> Step:
    """The step that pretrains a leaf's student with the teachers of a setting."""
    student, config = setting.student(leaf), f'pretrain_configs/{leaf}.py'
    folder = pretrain_dir(SAMPLE, student, seed)
    command = ('python', 'tools/train.py', config, '--sample', '--seed', str(seed))
    return Step(
        name=f'pretrain_{student}_p{seed}',
        command=(*command, '--teachers', *(f'mae={_file(name)}' for name in setting.lists)),
        outputs=tuple(str(folder / proof) for proof in ('student.safetensors', 'student.json')),
        needs=('data', *(f'teach_{name}' for name in setting.lists)),
        sources=config_sources(root, config, OVERLAYS['pretrain']),
        seconds=STUDENT_SECONDS,
    )
