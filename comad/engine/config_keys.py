"""Which config keys something reads: MMEngine itself ignores a mistyped one.

Nothing here imports torch, and MMEngine only where a config is at hand.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from comad.engine.options import ConfigError
from comad.runs.place import FILES
from comad.runs.track import track_names

if TYPE_CHECKING:
    from mmengine.config import Config

# The last two are read by test.py --tta alone.
RUNNER_KEYS = {
    'model', 'work_dir', 'train_dataloader', 'val_dataloader', 'test_dataloader', 'train_cfg',
    'val_cfg', 'test_cfg', 'auto_scale_lr', 'optim_wrapper', 'param_scheduler', 'val_evaluator',
    'test_evaluator', 'default_hooks', 'custom_hooks', 'data_preprocessor', 'load_from', 'resume',
    'launcher', 'env_cfg', 'log_processor', 'log_level', 'visualizer', 'default_scope',
    'randomness', 'experiment_name', 'runner_type', 'custom_imports', 'model_wrapper_cfg',
    'sync_bn', 'compile', 'find_unused_parameters', 'tta_model', 'tta_pipeline',
}  # fmt: skip
# And leaves' parts for tracks.
SUITE_KEYS = {'protocol', 'run', *track_names(FILES)}
# Plain dictionaries that MMEngine reads by `get`: it would ignore a mistyped key.
NESTED_KEYS = {
    'optim_wrapper': {
        'type', 'optimizer', 'constructor', 'paramwise_cfg', 'clip_grad', 'accumulative_counts',
        'dtype', 'loss_scale', 'use_fsdp',
    },
    'optim_wrapper.clip_grad': {
        'max_norm', 'norm_type', 'error_if_nonfinite', 'foreach', 'type', 'clip_value',
        'per_tensor',
    },
    'auto_scale_lr': {'enable', 'base_batch_size'},
    'randomness': {'seed', 'deterministic', 'diff_rank_seed'},
    'env_cfg': {'cudnn_benchmark', 'mp_cfg', 'dist_cfg', 'resource_limit'},
    'env_cfg.mp_cfg': {'mp_start_method', 'opencv_num_threads'},
    'protocol': {'name', 'version', 'published', 'deviations'},
    'custom_imports': {'imports', 'allow_failed_imports'},
}  # fmt: skip
# Of which one may be meant.
KNOWN_KEYS = [
    *RUNNER_KEYS,
    *SUITE_KEYS,
    *(f'{place}.{key}' for place, keys in NESTED_KEYS.items() for key in keys),
]


# What has to be a dictionary, or a list of them, wherever it is not None.
LOADER = r'(train|val|test)_dataloader'
DICTIONARIES = re.compile(
    rf'model|tta_model|{LOADER}(\.(dataset|sampler))?|(train|val|test)_cfg|default_hooks(\.\w+)?|'
    r'optim_wrapper(\.(optimizer|paramwise_cfg|clip_grad))?|env_cfg|randomness|auto_scale_lr|'
    r'log_processor|visualizer|custom_hooks\.\d+|param_scheduler\.\d+|(val|test)_evaluator\.\d+'
)
LISTS = re.compile(r'custom_hooks|param_scheduler|(val|test)_evaluator')
NEEDED = ('model',)
BOOLEANS = ('randomness.deterministic', 'randomness.diff_rank_seed', 'env_cfg.cudnn_benchmark')


def check_shapes(cfg: Config, path: Path) -> None:
    """Refuse a value that stands where a dictionary, a list of them or a bool is read.

    ``--cfg-options`` makes a text of dictionaries within a list.

    Raises:
        ConfigError: Key, value, and what is expected.
    """
    config = cfg._cfg_dict.to_dict()
    for key in NEEDED:
        if config.get(key) is None:
            raise ConfigError(f'{path}: {key} is missing; expected a dictionary with its type')
    if 'default_hooks' in config and config['default_hooks'] is None:
        raise ConfigError(
            'default_hooks=None: expected a dictionary; default_hooks.NAME=None is off'
        )
    for key, value in _values(config):
        if value is None:
            continue
        if LISTS.fullmatch(key) and not isinstance(value, (dict, list, tuple)):
            raise ConfigError(f'{key}={value!r:.60}: expected a list of dictionaries')
        if DICTIONARIES.fullmatch(key) and not isinstance(value, dict):
            raise ConfigError(f'{key}={value!r:.60}: expected a dictionary')
        if key in BOOLEANS and not isinstance(value, bool):
            raise ConfigError(f'{key}={value!r:.60}: expected True or False')


def _values(node: Any, key: str = '') -> Iterator[tuple[str, Any]]:
    """Everything down to three levels, which all that is checked lies in."""
    parts = node.items() if isinstance(node, dict) else enumerate(node)
    for name, value in parts:
        inner = f'{key}.{name}' if key else str(name)
        yield inner, value
        if isinstance(value, (dict, list, tuple)) and inner.count('.') < 2:
            yield from _values(value, inner)


def find_unknown_keys(cfg: Config, path: Path, cfg_options: dict[str, Any]) -> list[str]:
    """Config keys that nothing reads, in reading order.

    Known are the Runner's parameters, the suite's own keys, names that another expression of our
    files uses, and names that come from an mm* base file.
    """
    used, foreign = names_used(path)
    known = RUNNER_KEYS | SUITE_KEYS | used | foreign
    unknown = [key for key in cfg if key not in known]
    unknown += [
        key
        for key in cfg_options
        if (head := key.split('.')[0]) not in cfg and head not in RUNNER_KEYS | SUITE_KEYS
    ]
    for place, allowed in NESTED_KEYS.items():
        node: Any = cfg
        for part in place.split('.'):
            node = node.get(part) if hasattr(node, 'get') else None
        if isinstance(node, dict):
            unknown += [f'{place}.{key}' for key in node if key not in allowed]
            unknown += [
                key
                for key in cfg_options
                if key.startswith(f'{place}.')
                and key[len(place) + 1 :].partition('.')[0] not in allowed
            ]
    return unknown


def names_used(path: Path) -> tuple[set[str], set[str]]:
    """Names that expressions of a config and its bases read; names that mm* bases define."""
    used, foreign = set(), set()
    for source in _config_sources(path):
        if source.suffix != '.py':  # YAML and JSON hold no expressions
            continue
        tree = ast.parse(source.read_text(encoding='utf-8'))
        if source.is_relative_to(FILES) or source == path.resolve():
            for node in ast.walk(tree):
                if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load):
                    used.add(node.id)
                elif (
                    isinstance(node, ast.Attribute)
                    and isinstance(node.value, ast.Name)
                    and node.value.id == '_base_'
                ):
                    used.add(node.attr)
        else:
            for statement in tree.body:
                if isinstance(statement, ast.Assign):
                    foreign |= {t.id for t in statement.targets if isinstance(t, ast.Name)}
    return used, foreign


def _config_sources(path: Path) -> Iterator[Path]:
    """The config file and, recursively, its bases."""
    from mmengine.config import Config

    path = path.resolve()
    yield path
    for base in Config._get_base_files(str(path)):
        if isinstance(base, str):
            yield from _config_sources(_base_path(base, path))


def _base_path(base: str, path: Path) -> Path:
    """The file that the base of the config at ``path`` stands for."""
    package, separator, name = base.partition('::')
    if not separator:
        return path.parent / base
    # Their bases lie where the package is; MMEngine's own search reads all model indices first,
    # which takes as long as the whole config.
    spec = find_spec(package)
    if spec is not None and spec.origin is not None:
        found = Path(spec.origin).parent / '.mim' / 'configs' / name
        if found.is_file():
            return found
    from mmengine.config import Config

    return Path(Config._get_cfg_path(base, str(path))[0])
