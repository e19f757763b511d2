"""What a run needs to find on disk, asked before anything is built. Nothing here imports torch."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from backbones.names import meant
from comad.engine.distillation import DISTILL, command_of
from comad.engine.options import ConfigError
from comad.engine.own_networks import own_command
from comad.engine.preemption import FINISHED
from comad.engine.shipped import is_shipped, place, run_of
from comad.runs.place import FILES, pretrain_dir, split_equal, split_own, worded
from comad.runs.resolved import read_resolved
from comad.runs.track import Track

if TYPE_CHECKING:
    from mmengine.config import Config

# Which pretraining run of the sample stands in for an official teacher file.
SAMPLE_TEACHERS = {
    'teachers/mae_pretrain_vit_base.pth': 'mae_base',
    'teachers/vit-b-300ep.pth.tar': 'mocov3_base',
    'teachers/vitb_16/checkpoint_teacher.pth': 'ibot_base',
}
# Apart from them, since no grid of images runs these.
VIDEO_TEACHERS = {
    'teachers/videomae_pretrain_vit_large.pth': 'videomae_video_large',
    'teachers/ssv2/videomae_pretrain_vit_large.pth': 'videomae_video_large',
}
SAMPLE_ROOTS = ('data/sample/', 'data/sample_video/')
LAYOUTS = {
    'imagenet': 'train/<class>/*.JPEG and val/<class>/*.JPEG, or tar shards',
    'ade': 'ADEChallengeData2016/images and annotations, each with training and validation',
    'cifar-100-binary': 'train.bin, test.bin and fine_label_names.txt of the binary version',
    'kinetics400': 'train.csv and val.csv with lines "path label", and the files',
    'ssv2': 'train.csv and val.csv with lines "folder frames label" or "path label", and the files',
    'coco': 'train2017, val2017 and annotations/instances_{train,val}2017.json',
}
DATA_KEYS = ('root', 'data_root')


def check_paths(cfg: Config, track: Track) -> None:
    """Data roots, teacher files and the student must be there before anything is built.

    What comes with the track counts as there, see `place_shipped`.

    Raises:
        ConfigError: what is missing, where it is expected, and that ``--sample`` runs without.
    """
    for path, line in needed_paths(cfg, track).items():
        if not path.exists() and not is_shipped(path, track):
            raise ConfigError(line)


def place_shipped(cfg: Config, track: Track) -> None:
    """Write the teachers that a run reads, come with its track, and are not there yet."""
    for path in needed_paths(cfg, track):
        if not path.exists() and is_shipped(path, track):
            place(run_of(path, track), track.name)


def needed_paths(cfg: Config, track: Track) -> dict[Path, str]:
    """What a run reads, data, teachers, student, each with the line that says it is missing.

    Raises:
        ConfigError: A teacher that is none.
    """
    found: dict[Path, str] = {}
    for path, line in (
        *_data(cfg, track),
        *_teachers(cfg, track),
        *_start(cfg, track),
        *_student(cfg, track),
    ):
        found.setdefault(path, line)
    return found


def _data(cfg: Config, track: Track) -> Iterator[tuple[Path, str]]:
    way_out = (
        'or write the embedded sample with: ' + worded('python tools/data.py sample{video}')
        if track.stand_ins
        else 'or add --sample to run on the embedded sample without it'
    )
    read = ['train_dataloader', 'val_dataloader'] if cfg.get('train_cfg') else ['test_dataloader']
    for part in (*read, 'test_cfg'):  # k-NN keeps its bank there
        for key, value in _walk(cfg.get(part), part):
            if key.rpartition('.')[2] in DATA_KEYS:
                name = next((part for part in Path(value).parts if part in LAYOUTS), '')
                layout = f' ({LAYOUTS[name]})' if name else ''
                video = ' --video' if 'sample_video' in Path(value).parts else ''
                yield (
                    Path(value),
                    f'missing data: {Path(value).as_posix()}{layout}, seen from {Path.cwd()}; '
                    f'set {key} to its place, {way_out.replace("{video}", video)}',
                )


def _teachers(cfg: Config, track: Track) -> Iterator[tuple[Path, str]]:
    way_out = 'see docs/data.md; or add --sample to run on the embedded sample without it'
    for number, teacher in enumerate(cfg.model.get('teachers', None) or []):
        file = teacher.get('checkpoint') if isinstance(teacher, dict) else None
        if not isinstance(file, str) or 'family' not in teacher:
            raise ConfigError(
                f'model.teachers.{number}={teacher!r}: expected a dictionary with family and '
                "checkpoint, the teacher's file"
            )
        run = run_of(file, track)
        if run:
            made_by = command_of(run) or worded(f'tools/pretrain.sh {run}')
            way_out = f'pretrain it with: {made_by}{track.option}'
        elif track.stand_ins:
            way_out = 'a weight file is expected there'
        yield Path(file), f'missing teacher: the {teacher["family"]} file {file}; {way_out}'


def starting_file(cfg: Config) -> str:
    """The file that a pretraining reads its first weights from; '' where they are random."""
    init_cfg = cfg.model.get('backbone', {}).get('init_cfg') or {}
    return init_cfg.get('checkpoint') or ''


def _start(cfg: Config, track: Track) -> Iterator[tuple[Path, str]]:
    if file := starting_file(cfg):
        run = run_of(file, track)
        way_out = 'a student.safetensors with its student.json is expected there'
        if run:
            way_out = f'pretrain it with: {worded(f"tools/pretrain.sh {run}")}{track.option}'
        yield Path(file), f'missing weights to start from: {file}; {way_out}'


def _student(cfg: Config, track: Track) -> Iterator[tuple[Path, str]]:
    run = cfg.get('run')
    if run and run.folder not in ('pretrain', DISTILL) and run.method != 'scratch':
        student = pretrain_dir(track.name, run.student, run.pretrain_seed)
        if not (student / 'student.safetensors').is_file():
            method, factor = split_equal(run.method)
            method, data = split_own(method)
            distilled = command_of(run.student)
            config = f'pretrain_configs/{method}_{run.arch}.py'
            own = own_command(method, run.arch)
            if not distilled and not (FILES / config).is_file() and not own:
                yield (
                    student / 'student.safetensors',
                    f'missing student: {student}/student.safetensors, and no {config} makes it'
                    f'{meant(run.student, students())}; a student has the name of its config, such '
                    'as comad_tiny',
                )
                return
            made = (FILES / config).is_file()
            command = (
                distilled
                or (own if not made else None)
                or (f'tools/pretrain.sh {method if run.arch == "tiny" else f"{method}_{run.arch}"}')
            )
            options = track.option + (f' --seed {run.pretrain_seed}' if run.pretrain_seed else '')
            place = _own_data(cfg, student.parent, data) if data else None
            options += f' --data {shlex.quote(place or "PATH")}' if data else ''
            options += f' --compute-of STUDENT:{factor}' if factor else ''
            # What a run has left behind is replaced only for this.
            options += ' --overwrite' if (student / FINISHED).exists() else ''
            options += f', PATH being where the data {data} are' if data and not place else ''
            yield (
                student / 'student.safetensors',
                f'missing student: {student}/student.safetensors; '
                f'pretrain it with: {worded(command)}{options}',
            )


def _own_data(cfg: Config, runs: Path, data: str) -> str | None:
    """Where data of one's own are: this run reads them, or a pretraining of the student did.

    Args:
        cfg: Of this run.
        runs: Folder of the student's pretrainings, one for each seed.
        data: Their name, which says no place.
    """
    if cfg.run.get('data') == data:
        dataset = (cfg.get('train_dataloader') or cfg.test_dataloader).dataset
        while 'own' not in dataset:
            dataset = dataset.dataset
        return dataset.own.get('root') or dataset.root
    for config in sorted(runs.glob('*/*/vis_data/config.py')):
        with suppress(OSError, ValueError, KeyError, TypeError):
            if Path(place := read_resolved(config)['train_dataloader']['dataset']['root']).exists():
                return place
    return None


def students() -> list[str]:
    """The students that leaves pretrain, and the one that is not pretrained."""
    leaves = sorted((FILES / 'pretrain_configs').glob('*.py'))
    return [*(path.stem for path in leaves), 'scratch_tiny']


def _walk(node: Any, key: str) -> Iterator[tuple[str, str]]:
    """Every text below, with its dotted key."""
    if isinstance(node, dict):
        for name, value in node.items():
            yield from _walk(value, f'{key}.{name}')
    elif isinstance(node, (list, tuple)):
        for number, value in enumerate(node):
            yield from _walk(value, f'{key}.{number}')
    elif isinstance(node, str):
        yield key, node
