"""From a leaf config and command-line options to the one config that a run uses.

Nothing here imports torch, so that a mistyped key or a missing file is answered at once; MMEngine's
`Config`, half a second, is imported when one is read, after what the options alone can tell.
"""

from __future__ import annotations

import ast
import hashlib
import re
import traceback
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from backbones.architectures import NAMES, network_type, split_name
from backbones.names import meant
from comad.engine import bridges, distillation
from comad.engine.cfg_options import check_kept, merge
from comad.engine.config_keys import KNOWN_KEYS, check_shapes, find_unknown_keys
from comad.engine.equal_compute import equal_epochs, parse_budget
from comad.engine.options import ConfigError, RunOptions
from comad.engine.own_networks import put_networks
from comad.engine.paths import check_paths, place_shipped, students
from comad.engine.schedules import accumulate, check_schedule
from comad.engine.staged_backbone import fit_staged, fit_vit
from comad.engine.tracks import PRETRAIN, apply_track, track_value
from comad.runs.place import (
    FILES,
    equal_method,
    get_track,
    own_method,
    pretrain_root,
    runs_folder,
    worded,
)
from comad.runs.track import FULL, track_names
from comad.tasks.task import FOLDERS, tasks_of_folder

if TYPE_CHECKING:
    from mmengine.config import Config

DISTILL = distillation.DISTILL
# Whose runs make their own student.
MAKING = (PRETRAIN, DISTILL)
MMENGINE_HOOKS = {
    'runtime_info', 'timer', 'sampler_seed', 'logger', 'param_scheduler', 'checkpoint',
}  # fmt: skip
CONFIG_FOLDERS = tuple(f'{folder}_configs' for folder in (PRETRAIN, *FOLDERS))
RUN_KEYS = {'work_dir', 'run', 'launcher', 'resume', 'load_from', 'randomness'}


@dataclass(frozen=True)
class LeafName:
    """What a leaf's file name says: ``<kind>_<method>_<arch>.py``, no kind for pretraining."""

    folder: str
    kind: str
    method: str
    arch: str

    @property
    def student(self) -> str:
        name = f'{self.method}_{self.arch}'
        return f'{self.kind}_{name}' if self.folder == DISTILL else name


def parse_leaf_name(path: str | Path) -> LeafName | None:
    """Split a leaf's name; None for a config outside the suite's folders.

    Raises:
        ConfigError: a file in one of the folders whose name does not follow the grammar.
    """
    path = Path(path).resolve()
    if path.parent.name not in CONFIG_FOLDERS:
        return None
    folder = path.parent.name.removesuffix('_configs')
    kinds = [task.kind for task in tasks_of_folder(folder)]
    kind, student = PRETRAIN, path.stem
    if folder != PRETRAIN:
        fitting = (kind for kind in kinds if student.startswith(f'{kind}_'))
        kind = max(fitting, key=len, default='')
        student = student.removeprefix(f'{kind}_')
    names = split_name(student)
    if not kind or names is None:
        led = f', led by one of {", ".join(kinds)}' if kinds else ''
        raise ConfigError(
            f'{path.name} in {path.parent.name}/ is not named <method>_<arch>.py{led}; '
            f'arch is one of {", ".join(NAMES)}'
        )
    return LeafName(folder, kind, *names)


def load_run_config(options: RunOptions, check: bool = True) -> Config:
    """Resolve a config completely: the track's overlay, student, work dir, seeds, digest.

    Args:
        options: What the command line says.
        check: Whether data, teachers and student have to be there.

    Raises:
        ConfigError: unknown keys, malformed names, missing data, teachers or student.
    """
    path = Path(options.config)
    if not path.is_file():
        near = meant(path.stem, (leaf.stem for leaf in sorted(FILES.glob('*_configs/*.py'))))
        raise ConfigError(f'config {path} does not exist{near}; see the *_configs/ folders')
    leaf = parse_leaf_name(path)
    try:
        track = get_track(options.track)
    except ValueError as error:
        raise ConfigError(f'--track {options.track}: {error}') from None
    if leaf is None and (track.option or options.student or options.data):
        raise ConfigError(
            '--sample, --track, --student and --data need a config of '
            f'{"/, ".join(CONFIG_FOLDERS)}/'
        )
    if options.student:
        parse_student(options.student)
    if options.extend and not options.resume:
        raise ConfigError('--extend belongs to --resume: it goes on with a run that is there')
    if options.resume not in (None, 'auto') and not Path(options.resume).is_file():
        raise ConfigError(f'--resume {options.resume}: no such checkpoint')
    cfg = parse_config(path)
    if unknown := find_unknown_keys(cfg, path, options.cfg_options):
        near = meant(unknown[0], KNOWN_KEYS)
        raise ConfigError(f'{path}: nothing reads the config key {unknown[0]!r}{near}')
    if leaf is not None and leaf.folder == DISTILL:
        leaf = distillation.name_pair(cfg, leaf, options.student, track.name)
    parts = {name: cfg.pop(name, None) for name in track_names(FILES)}
    if leaf is not None and track.name != FULL:
        apply_track(cfg, leaf, track, parts[track.name])
    leaf = put_networks(cfg, leaf, options.teachers, options.student_arch, track)
    hooks = set(cfg.get('default_hooks') or {})
    data = note = ''
    if options.data:
        from comad.engine import own_data  # NumPy, which a refusal need not wait for

        data, note = own_data.use(cfg, leaf.folder, options.data)
    if options.cfg_options:
        merge(cfg, options.cfg_options)
    check_shapes(cfg, path)
    _drop_hooks(cfg, hooks)
    if leaf is not None:
        leaf, pretrain_seed = _name_student(cfg, leaf, options)
        if data and leaf.folder == PRETRAIN:
            leaf = replace(leaf, method=own_method(leaf.method, data))
        if options.compute_of:
            leaf = _equal_length(cfg, leaf, options)
        replace_values(cfg, lambda key, value: track_value(track, key, value, options.data))
        _place_run(cfg, leaf, pretrain_seed, options, data)
        if data:
            cfg.run.update(data=data, note=note)
    elif options.work_dir or not cfg.get('work_dir'):
        cfg.work_dir = options.work_dir or f'work_dirs/{path.stem}'
    _apply_run_options(cfg, leaf, options)
    check_kept(cfg, options)
    try:
        accumulate(cfg, options.accumulate)
        check_schedule(cfg)
    except ValueError as error:
        raise ConfigError(f'{path}: {error}') from None
    if check:
        check_paths(cfg, track)
        place_shipped(cfg, track)
    return cfg


def parse_config(path: str | Path) -> Config:
    """`Config.fromfile` without importing custom modules, errors as one line."""
    from mmengine.config import Config

    bridges.apply()
    try:
        return Config.fromfile(path, import_custom_modules=False)
    except ModuleNotFoundError as error:
        # MMEngine's own message about a missing base package leaves the name to its text.
        needed = error.name or str(error).split()[0]
        way = worded('tools/setup.sh --extras dense')
        raise ConfigError(f'{path} needs the package {needed!r}: install it with {way}') from error
    except (Exception, SystemExit) as error:  # a config is code, which can end in any way
        reason = ' '.join(str(error).split()) or 'no words'
        raise ConfigError(
            f'{_where(error, path)} cannot be read: {type(error).__name__}: {reason}'
        ) from error


def _where(error: BaseException, path: str | Path) -> str:
    """The file of a config that failed, which may be one of its bases, and the line in it."""
    line = ''
    for frame, number in traceback.walk_tb(error.__traceback__):
        if frame.f_code.co_name == '_file2dict':
            path, line = frame.f_locals.get('filename', path), ''
        elif frame.f_code.co_name == '<module>' and frame.f_code.co_filename == path:
            line = f', line {number}'
    return f'{_relative(path)}{line}'


def replace_values(node: Any, change: Callable[[str, Any], Any], key: str = '') -> Any:
    """Apply ``change(key, value)`` to every leaf value of nested dicts and lists, in place."""
    if hasattr(node, '_cfg_dict'):  # a Config, which is no dictionary itself
        replace_values(node._cfg_dict, change)
    elif isinstance(node, dict):
        for name in list(node):
            node[name] = replace_values(node[name], change, name)
    elif isinstance(node, (list, tuple)):
        return type(node)(replace_values(value, change, key) for value in node)
    else:
        return change(key, node)
    return node


def parse_student(text: str) -> tuple[str, str, int]:
    """Method, architecture and pretraining seed that ``--student`` names.

    Raises:
        ConfigError: another form, or an unknown architecture.
    """
    match = re.fullmatch(r'([a-z0-9_]+)(?::(\d+))?', text)
    names = split_name(match[1]) if match else None
    if names is None:
        near = meant(text.partition(':')[0], students())
        raise ConfigError(
            f'--student {text}{near}: expected <method>_<arch> or <method>_<arch>:<seed>, '
            f'arch one of {", ".join(NAMES)}'
        )
    return *names, int(match[2] or 0)


def _drop_hooks(cfg: Config, known: set[str]) -> None:
    """Take out hooks that are switched off by None; MMEngine knows that of its own six only."""
    hooks = cfg.get('default_hooks') or {}
    for name in [name for name, hook in hooks.items() if hook is None]:
        if name not in known | MMENGINE_HOOKS:
            raise ConfigError(
                f'default_hooks.{name}=None: expected one of {", ".join(sorted(known))}'
            )
        if name == 'wall_time':
            raise ConfigError(
                'default_hooks.wall_time=None: cards, records and the log state what it measures; '
                'every other hook can be switched off'
            )
        if name not in MMENGINE_HOOKS:
            del hooks[name]


def _name_student(cfg: Config, leaf: LeafName, options: RunOptions) -> tuple[LeafName, int]:
    """Point the backbone at the student; a leaf's file name and its student must agree."""
    if leaf.folder in MAKING:
        if options.student and leaf.folder == PRETRAIN:
            raise ConfigError('--student belongs to transfers; a pretraining makes its own student')
        return leaf, options.seed
    init_cfg = cfg.model.backbone.get('init_cfg')
    if not init_cfg or 'student' not in init_cfg:
        raise ConfigError(f'{options.config} names no student at model.backbone.init_cfg.student')
    pretrain_seed = 0
    if options.student:
        method, arch, pretrain_seed = parse_student(options.student)
        small = get_track(options.track).stand_ins
        fit_vit(cfg, leaf.arch, arch, small)
        leaf = LeafName(leaf.folder, leaf.kind, method, arch)
        init_cfg.student = leaf.student
        cfg.model.backbone.update(type=network_type(arch), arch=arch)
        fit_staged(cfg, arch, small)
    elif init_cfg.student != leaf.student:
        raise ConfigError(
            f'{options.config} is named after {leaf.student} but uses {init_cfg.student}'
        )
    init_cfg.seed = pretrain_seed
    init_cfg.track = options.track
    init_cfg.root = pretrain_root(options.track)
    return leaf, pretrain_seed


def _equal_length(cfg: Config, leaf: LeafName, options: RunOptions) -> LeafName:
    """Train for as much compute as another student, under a name of its own."""
    if leaf.folder != PRETRAIN:
        raise ConfigError('--compute-of belongs to pretraining')
    root = Path(pretrain_root(options.track))
    try:
        _, factor = parse_budget(options.compute_of)
        cfg.train_cfg.max_epochs = equal_epochs(leaf.student, options.compute_of, root)
    except ValueError as error:
        raise ConfigError(str(error)) from None
    return replace(leaf, method=equal_method(leaf.method, factor))


def _place_run(
    cfg: Config, leaf: LeafName, pretrain_seed: int, options: RunOptions, data: str = ''
) -> None:
    seed = f'seed{options.seed}'
    if leaf.folder not in MAKING and pretrain_seed:
        seed = f'pretrain{pretrain_seed}_{seed}'
    kind = PRETRAIN if leaf.folder in MAKING else leaf.kind
    # A student is found by its name alone, which says what it was trained on.
    place = own_method(kind, data) if data and kind != PRETRAIN else kind
    root = runs_folder(options.track) / place
    cfg.work_dir = options.work_dir or f'{root}/{leaf.student}/{seed}'
    cfg.run = dict(
        config=_relative(options.config),
        folder=leaf.folder,
        kind=leaf.kind,
        student=leaf.student,
        method=distillation.method_of(leaf),
        arch=leaf.arch,
        seed=options.seed,
        pretrain_seed=pretrain_seed,
        track=options.track,
        # A run in a folder of its own keeps its record there: it is an experiment, not a result.
        records='' if options.work_dir is None else f'{options.work_dir}/records',
        digest=config_digest(cfg),
        source=_source(options, leaf),
    )


def _source(options: RunOptions, leaf: LeafName) -> str:
    """The leaf as it was run; inheritance drops docstrings, and records show what was asked for.

    Another student's is the leaf that would name it: the docstring is about the leaf's own.
    """
    text = Path(options.config).read_text(encoding='utf-8')
    own = parse_leaf_name(options.config)
    if leaf.folder == PRETRAIN or leaf.student == own.student:
        return text
    if leaf.folder == DISTILL:
        return f'"""{_relative(options.config)} --student {leaf.method}_{leaf.arch}"""\n'
    first = ast.parse(text).body[0]
    if isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant):
        text = ''.join(text.splitlines(keepends=True)[first.end_lineno :]).lstrip('\n')
    text = text.replace(f"student='{own.student}'", f"student='{leaf.student}'")
    command = f'{_relative(options.config)} --student {leaf.student}'
    return f'"""{leaf.kind} of {leaf.student}: {command}."""\n\n{text}'


def _relative(path: str | Path) -> str:
    resolved = Path(path).resolve()
    return str(resolved.relative_to(FILES)) if resolved.is_relative_to(FILES) else str(path)


def config_digest(cfg: Config) -> str:
    """sha256 of the resolved config without the keys that only say where and how often it runs."""
    content = {k: v for k, v in cfg._cfg_dict.to_dict().items() if k not in RUN_KEYS}
    return hashlib.sha256(repr(_ordered(content)).encode()).hexdigest()


def _ordered(node: Any) -> Any:
    if isinstance(node, dict):
        return [(key, _ordered(node[key])) for key in sorted(node)]
    if isinstance(node, (list, tuple)):
        return [_ordered(value) for value in node]
    return node


def _apply_run_options(cfg: Config, leaf: LeafName | None, options: RunOptions) -> None:
    cfg.launcher = options.launcher or 'none'
    if leaf is not None or 'randomness' not in cfg:
        cfg.randomness = {**cfg.get('randomness', {}), 'seed': options.seed}
    if options.amp and 'optim_wrapper' in cfg:
        cfg.optim_wrapper.type = 'AutocastOptimWrapper'
        cfg.optim_wrapper.dtype = 'bfloat16'
    if options.auto_scale_lr:
        if 'base_batch_size' not in cfg.get('auto_scale_lr', {}):
            raise ConfigError(
                f'--auto-scale-lr: {options.config} states no auto_scale_lr.base_batch_size'
            )
        cfg.auto_scale_lr.enable = True
    if options.resume:
        cfg.resume = True
        if options.resume != 'auto':
            cfg.load_from = options.resume
