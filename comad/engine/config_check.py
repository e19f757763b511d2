"""Names and arguments of all that a config builds, against registries and signatures.

Asked before data, teachers or the model are touched. MMEngine itself meets a mistake where the
thing is built, which for an optimizer or a metric is after minutes, and names no key.
"""

import copy
import inspect
import re
import warnings
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import torch
from mmengine import registry as mm
from torch.utils.data import DataLoader

from backbones.names import meant, near
from comad.engine.loops import resumable
from comad.engine.options import ConfigError

# Where what is built, by its key; what lies in a model may be any of its parts.
PARTS = r'(model|tta_model)\..*'
PLACES = {
    r'(model|tta_model|data_preprocessor)': (mm.MODELS,),
    PARTS: (mm.MODELS, mm.TASK_UTILS),
    r'optim_wrapper': (mm.OPTIM_WRAPPERS,),
    r'optim_wrapper\.optimizer': (mm.OPTIMIZERS,),
    r'param_scheduler(\.\d+)?': (mm.PARAM_SCHEDULERS,),
    r'(default_hooks\.\w+|custom_hooks\.\d+)': (mm.HOOKS,),
    r'(.+\.)?\w*dataloader\.(dataset|dataset(\.dataset)+)': (mm.DATASETS,),
    r'(.+\.)?\w*dataloader\.(batch_)?sampler': (mm.DATA_SAMPLERS,),
    r'.*(pipeline|transforms)(\.\d+)+': (mm.TRANSFORMS,),
    r'(val|test)_evaluator(\.(metrics\.)?\d+)?': (mm.METRICS, mm.EVALUATOR),
    r'(train|val|test)_cfg': (mm.LOOPS,),
    r'visualizer': (mm.VISUALIZERS,),
    r'(visualizer\.)?vis_backends\.\d+': (mm.VISBACKENDS,),
    r'log_processor': (mm.LOG_PROCESSORS,),
}
LOADER = re.compile(r'(.+\.)?\w*dataloader')
# Read by whoever builds, and handed on to nobody.
READ_BEFORE = {
    'type', '_scope_', 'priority', 'convert_to_iter_based', 'constructor', 'paramwise_cfg',
    'by_epoch',
}  # fmt: skip
LOADER_KEYS = {'dataset', 'sampler', 'batch_sampler', 'collate_fn', 'num_batch_per_epoch'}
NUMBERS = {'bool', 'int', 'float'}
WORDS_BESIDE = {'None', 'NoneType', 'Optional', 'Union', 'Tensor', 'torch', 'typing'}
LEVELS = ('CRITICAL', 'ERROR', 'WARNING', 'INFO', 'DEBUG')
NAME = re.compile(r'\w+(\.\w+)*')
SHOWN = 8
ALMOST = 0.8


class Arguments(NamedTuple):
    """What something that a config builds can be told: names with their annotation as text.

    ``closed``: whether it takes no others.
    """

    names: dict[str, str]
    closed: bool


def check_config(cfg: Any) -> None:
    """Check every name and argument; optimizer, its wrapper and schedules are tried out.

    Raises:
        ConfigError: One line with key, value and what is known instead.
    """
    config = cfg._cfg_dict.to_dict()
    if (level := config.get('log_level', 'INFO')) not in LEVELS:
        raise ConfigError(f'log_level={level!r}: expected one of {", ".join(LEVELS)}')
    for key, node, scope in nodes(config, cfg.get('default_scope')):
        rate = node.get('drop_path_rate')
        # A frozen network would take any, and say nothing.
        if isinstance(rate, int | float) and not 0 <= rate < 1:
            raise ConfigError(f'{key}.drop_path_rate={rate}: expected 0 to below 1')
        if LOADER.fullmatch(key):
            given = {k: v for k, v in node.items() if k not in LOADER_KEYS}
            _check_arguments(key, given, arguments_of(DataLoader))
        elif (built := _resolve(key, node, scope)) is not None:
            _check_arguments(key, node, arguments_of(built))
    _try_optimizer(config)


def nodes(node: Any, scope: str | None, key: str = '') -> Iterator[tuple[str, dict, str | None]]:
    """Every dictionary below, with its key and the scope of its names; `init_cfg` is read later."""
    if isinstance(node, dict):
        scope = node.get('_scope_', scope)
        if key:
            yield key, node, scope
        for name, value in node.items():
            if name not in ('init_cfg', 'run', 'protocol'):
                yield from nodes(value, scope, f'{key}.{name}' if key else str(name))
    elif isinstance(node, (list, tuple)):
        for number, value in enumerate(node):
            yield from nodes(value, scope, f'{key}.{number}')


def _resolve(key: str, node: dict[str, Any], scope: str | None) -> Callable[..., Any] | None:
    """What a dictionary builds; None where it builds nothing, or its arguments are not its own."""
    place = next((found for place, found in PLACES.items() if re.fullmatch(place, key)), None)
    if place is None:
        return None
    if place[0] is mm.LOOPS and 'type' not in node and 'by_epoch' in node:
        return resumable(node)['type']
    kind = node.get('type')
    if not isinstance(kind, str):
        return kind if callable(kind) else None
    for registry in place:
        with registry.switch_scope_and_registry(scope) as chosen:
            # A registry fails in ways of its own at what cannot be a name.
            if NAME.fullmatch(kind) and (built := chosen.get(kind)) is not None:
                # norm_cfg and its like: whoever builds them takes some out before.
                return None if key.endswith('_cfg') and place[0] is not mm.LOOPS else built
    known = sorted({name for registry in place for name in _names(registry)})
    if re.fullmatch(PARTS, key) and not near(kind, known, cutoff=ALMOST):
        return None  # such as mmcv's operators, which their users find by other ways
    raise ConfigError(f'{key}.type={kind!r}: nothing of that name{_like(kind, known)}')


def _names(registry: Any) -> set[str]:
    found = set(registry.module_dict)
    return found.union(*(_names(child) for child in registry.children.values()))


def _like(given: str, known: list[str]) -> str:
    """What might have been meant, or the beginning of what there is."""
    more = ', ...' if len(known) > SHOWN else ''
    return meant(given, known) or f'; known: {", ".join(known[:SHOWN])}{more}'


def arguments_of(built: Callable[..., Any]) -> Arguments:
    """What may be given to a class or function.

    A class that hands on what it does not know takes what its parents take; one that does
    something else with it takes anything.
    """
    if not inspect.isclass(built):
        return _arguments(built)
    names: dict[str, str] = {}
    for kind in built.__mro__:
        init = kind.__dict__.get('__init__')
        if init is None:
            continue
        own = _arguments(init)
        names = own.names | names
        if own.closed:
            return Arguments(names, closed=True)
        if not _hands_on(init):
            break
    return Arguments(names, closed=False)


def _arguments(function: Callable[..., Any]) -> Arguments:
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        return Arguments({}, closed=False)
    kinds = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    names = {
        one.name: ''
        if one.annotation is one.empty
        else getattr(one.annotation, '__name__', '')
        if inspect.isclass(one.annotation)
        else str(one.annotation)
        for one in parameters
        if one.kind not in kinds
    }
    return Arguments(names, all(one.kind is not kinds[1] for one in parameters))


def _hands_on(init: Callable[..., Any]) -> bool:
    """Whether ``**options`` go to the parent's ``__init__`` and nowhere else."""
    try:
        source = inspect.getsource(init)
    except (OSError, TypeError):
        return False
    last = list(inspect.signature(init).parameters)[-1]
    handed = rf'super\([^)]*\)\.__init__\([^)]*\*\*{last}\b'
    looked_at = rf"\b{last}\.get\(|' in {last}\b"
    body = source.partition('):')[2] if '->' not in source else source.partition('->')[2]
    body = re.sub(r'""".*?"""', '', body, flags=re.S)
    rest = re.sub(handed, '', re.sub(looked_at, '', body))
    return re.search(handed, body) is not None and not re.search(rf'\b{last}\b', rest)


def _check_arguments(key: str, node: Mapping[str, Any], taken: Arguments) -> None:
    known = sorted(set(taken.names) - {'self'})
    for name, value in node.items():
        if name in READ_BEFORE:
            continue
        if name not in taken.names:
            if taken.closed:
                kind = f'{node["type"]} has' if 'type' in node else 'it has'
                raise ConfigError(
                    f'{key}.{name}={_shown(value)}: {kind} no such argument'
                    f'{_like(str(name), known)}'
                )
            continue
        words = set(re.findall(r'\w+', taken.names[name])) - WORDS_BESIDE
        if words and words <= NUMBERS and _is_no(value, words):
            raise ConfigError(
                f'{key}.{name}={_shown(value)}: expected {" or ".join(sorted(words))}'
            )


def _is_no(value: Any, words: set[str]) -> bool:
    """Whether a value is surely none of these kinds of numbers; a whole float is an int's."""
    if isinstance(value, (str, bytes, list, tuple, dict)):
        return True
    return isinstance(value, float) and 'float' not in words and value != int(value)


def _shown(value: Any) -> str:
    return f'{value!r:.60}'


def _try_optimizer(config: Mapping[str, Any]) -> None:
    """Build optimizer, wrapper and schedules around one number, which takes no time."""
    wrapper = copy.deepcopy(config.get('optim_wrapper'))
    if not isinstance(wrapper, dict) or not isinstance(wrapper.get('optimizer'), dict):
        return  # several optimizers, or none
    name = wrapper.pop('constructor', 'DefaultOptimWrapperConstructor')
    constructor = name
    if isinstance(name, str):
        constructor = mm.OPTIM_WRAPPER_CONSTRUCTORS.get(name) if NAME.fullmatch(name) else None
    if not callable(constructor):
        known = sorted(_names(mm.OPTIM_WRAPPER_CONSTRUCTORS))
        raise ConfigError(
            f'optim_wrapper.constructor={name!r}: nothing of that name{_like(str(name), known)}'
        )
    paramwise = wrapper.pop('paramwise_cfg', None)
    with _told('optim_wrapper.paramwise_cfg', paramwise or {}):
        constructor(copy.deepcopy(wrapper), copy.deepcopy(paramwise))
    described = wrapper.pop('optimizer')
    with _told('optim_wrapper.optimizer', described):
        number = torch.nn.Parameter(torch.zeros(1))
        optimizer = mm.OPTIMIZERS.build(dict(described, params=[number]))
    wrapper.setdefault('type', 'OptimWrapper')
    with _told('optim_wrapper', wrapper):
        built = mm.OPTIM_WRAPPERS.build(dict(wrapper, optimizer=optimizer))
    if getattr(built, 'clip_grad_kwargs', None):
        number.grad = torch.ones(1)
        with _told('optim_wrapper.clip_grad', wrapper['clip_grad']):
            built.clip_func([number], **built.clip_grad_kwargs)
    schedules = config.get('param_scheduler') or []
    for number, entry in enumerate([schedules] if isinstance(schedules, dict) else schedules):
        entry = {k: v for k, v in entry.items() if k != 'convert_to_iter_based'}
        with _told(f'param_scheduler.{number}', entry), warnings.catch_warnings():
            warnings.simplefilter('ignore')
            mm.PARAM_SCHEDULERS.build(dict(entry, optimizer=optimizer))


class _told:  # noqa: N801 (used like a function)
    """Whatever is raised within becomes one line that names the key and what it was given."""

    def __init__(self, key: str, given: Mapping[str, Any]) -> None:
        values = ', '.join(f'{k}={_shown(v)}' for k, v in given.items() if k != 'type')
        self.where = f'{key} ({given.get("type", "")}{" " if "type" in given else ""}{values})'

    def __enter__(self) -> None: ...

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        if isinstance(error, Exception):
            text = ' '.join(str(error).split()) or type(error).__name__
            raise ConfigError(f'{self.where}: {text}') from error
