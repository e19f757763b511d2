"""Leaves of distill_configs/: what their names say, and other pairs through one of them.

``<data>_<method>_<teacher>_<student>.py``, no teacher for ``plain``. A leaf is a recipe for one
data set and one family of students; ``--student <method>_<teacher>_<student>`` runs any other
method or pair by it. Nothing here imports torch.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from backbones.architectures import NAMES, split_name
from backbones.names import meant
from backbones.staged_table import NETWORKS, STAGED, entry_of, evaluation_view
from comad.engine.options import ConfigError
from comad.runs.place import FILES, get_track, pretrain_root, worded
from comad.runs.track import FULL
from comad.tasks.supervised import RECIPE
from comad.tasks.task import tasks_of_folder

if TYPE_CHECKING:
    from mmengine.config import Config

DISTILL = 'distill'
ALONE = 'plain'
FAMILY = 'classifier'
TABLE = 'base_configs/distill_methods.py'


@dataclass(frozen=True)
class Pair:
    """A method, its teacher ('' without one) and its student."""

    method: str
    teacher: str
    student: str

    @property
    def name(self) -> str:
        """``<method>_<teacher>``, what stands before the student's name."""
        return f'{self.method}_{self.teacher}' if self.teacher else self.method


def parse_pair(method: str, student: str) -> Pair:
    """Split ``<method>_<teacher>`` and check both networks.

    Raises:
        ConfigError: no teacher, or a network that has no stages.
    """
    split = (method, '') if method == ALONE else split_name(method)
    if split is None or any(name and name not in NETWORKS for name in (split[1], student)):
        raise ConfigError(
            f'{method}_{student}: expected <method>_<teacher>_<student>, or {ALONE}_<student>, '
            f'networks of {", ".join(NETWORKS)}'
        )
    return Pair(*split, student)


def data_of(student: str) -> tuple[str, str] | None:
    """Data and the rest of a distilled student's name, ``cifar100_kd_swin_tiny_resnet18``."""
    kinds = [task.kind for task in tasks_of_folder(DISTILL)]
    kind = next((kind for kind in kinds if student.startswith(f'{kind}_')), None)
    return None if kind is None else (kind, student.removeprefix(f'{kind}_'))


def command_of(student: str) -> str | None:
    """The command that makes a student, None if no distillation does."""
    found = data_of(student)
    names = split_name(found[1]) if found else None
    if names is None:
        return None
    pair = parse_pair(*names)
    words = ('tools/distill.sh', pair.method, found[0], pair.teacher, pair.student)
    return worded(' '.join(word for word in words if word))


def method_of(leaf: Any) -> str:
    """A leaf's method as tables show it: that of a distillation without its teacher."""
    return parse_pair(leaf.method, leaf.arch).method if leaf.folder == DISTILL else leaf.method


def other_student(cfg: Config, method: str) -> str:
    """What ``--student`` names of another method for a resolved config's teacher and student.

    Raises:
        ConfigError: the config trains a student alone, and the method needs a teacher.
    """
    student, teachers = cfg.run.arch, cfg.model.get('teachers') or ()
    if method == ALONE:
        return Pair(method, '', student).name + f'_{student}'
    if not teachers:
        raise ConfigError(f'{cfg.run.student} has no teacher: {method} cannot be compared with it')
    teacher = teachers[0].arch.removeprefix('sample_')
    return Pair(method, teacher, student).name + f'_{student}'


def recipe_leaf(data: str, student: str) -> str:
    """The leaf whose recipe is that of a data set and a student's family.

    Raises:
        ConfigError: there is none.
    """
    wanted = entry_of(student).family
    for path in sorted((FILES / f'{DISTILL}_configs').glob(f'{data}_*.py')):
        names = split_name(path.stem)
        if names and names[1] in NETWORKS and entry_of(names[1]).family == wanted:
            return str(path)
    raise ConfigError(f'distill_configs/ has no recipe for {wanted} students on {data}')


def name_pair(cfg: Config, leaf: Any, student: str | None, track: str) -> Any:
    """Make the config that of its leaf's pair, or of another one; returns the leaf's new name.

    Args:
        cfg: Changed in place.
        leaf: What the leaf's file name says.
        student: ``<method>_<teacher>_<student>`` of ``--student``.
        track: One with stand-ins has teachers that are runs of its own.

    Raises:
        ConfigError: a name that is none, another family of students than the recipe's, or a leaf
            that is not what its name says.
    """
    pair = parse_pair(leaf.method, leaf.arch)
    if student is None:
        _check_leaf(cfg, leaf, pair)
    else:
        names = split_name(student.partition(':')[0])
        if names is None or ':' in student:
            raise ConfigError(
                f'--student {student}: expected <method>_<teacher>_<student>, the student one of '
                f'{", ".join(name for name in NAMES if name in NETWORKS)}'
            )
        other = parse_pair(*names)
        ours, theirs = entry_of(pair.student).family, entry_of(other.student).family
        if ours != theirs:
            raise ConfigError(
                f'--student {student}: {leaf.kind}_{leaf.method}_{leaf.arch}.py is a recipe for '
                f'{ours} students; use {recipe_leaf(leaf.kind, other.student)}'
            )
        if other != pair:
            pair, leaf = other, _swap(cfg, leaf, other)
    if pair.teacher:
        teacher, run = cfg.model.teachers[0], f'{leaf.kind}_{ALONE}_{pair.teacher}'
        if get_track(track).stand_ins:
            teacher.checkpoint = f'{pretrain_root(track)}/{run}/seed0/student.safetensors'
    return leaf


def _check_leaf(cfg: Config, leaf: Any, pair: Pair) -> None:
    teachers = cfg.model.get('teachers') or []
    held = Pair(
        cfg.model.type.lower(),
        teachers[0].arch if teachers else '',
        cfg.model.backbone.arch,
    )
    if held != pair:
        raise ConfigError(
            f'{leaf.kind}_{leaf.method}_{leaf.arch}.py is named after {pair.name}_{pair.student} '
            f'but trains {held.name}_{held.student}'
        )


def _swap(cfg: Config, leaf: Any, pair: Pair) -> Any:
    """Replace method, teacher and student; the recipe stays."""
    from dataclasses import replace

    from comad.engine.run_config import parse_config

    table = parse_config(FILES / TABLE)._cfg_dict.to_dict()
    if pair.method not in table['methods']:
        known = table['methods']
        near = meant(pair.method, known)
        raise ConfigError(f'no method {pair.method!r}{near}; one of: {", ".join(known)}')
    family = entry_of(pair.student).family
    options = dict(table['methods'][pair.method])
    for part in (f'{leaf.kind}_{family}_{pair.method}', f'{leaf.kind}_{pair.name}_{pair.student}'):
        options |= table['settings'].get(part, {})
    if pair.teacher:
        files = table['teachers'][leaf.kind]
        file = files.get(pair.teacher) or (
            f'{pretrain_root(FULL)}/{leaf.kind}_{ALONE}_{pair.teacher}/seed0/student.safetensors'
        )
        options['teachers'] = [dict(family=FAMILY, arch=pair.teacher, checkpoint=file)]
    kept = {key: cfg.model[key] for key in RECIPE if key in cfg.model}
    kept['backbone'] = {**kept['backbone'], 'type': STAGED, 'arch': pair.student}
    cfg.model = {**kept, **options}
    for loader in ('val_dataloader', 'test_dataloader'):
        cfg[loader].dataset.views.update(evaluation_view(pair.student))
    return replace(leaf, method=pair.name, arch=pair.student)
