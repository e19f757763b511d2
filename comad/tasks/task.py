"""What a task is, and all tasks, found by their files in this package."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules
from typing import Any

from comad.runs.place import get_track
from comad.tasks.protocol import Field, ProtocolReader

# Ending of a kind that is tested at several scales.
MULTI_SCALE = '_ms'
# The picture that every dense evaluation leaves beside its record.
FIGURE = 'predictions.png'


@dataclass(frozen=True)
class Metric:
    """A figure that an evaluation reports, and how a table shows it.

    Args:
        name: Name in the table, the one published figures use.
        pool: Which pooled feature it belongs to, '' where there is no choice.
        upper: Largest possible value as the evaluation reports it; 1 for fractions.
        higher_is_better: Direction of the ranking.
    """

    name: str
    pool: str = ''
    upper: float = 100.0
    higher_is_better: bool = True

    def percent(self, value: float) -> float:
        """Return a reported value in percent."""
        return value * 100.0 / self.upper


@dataclass(frozen=True)
class Task:
    """One kind of evaluation.

    Args:
        kind: First part of its configs' names and of its records' names.
        folder: ``cls``, ``seg`` or ``det``: its leaves lie in ``<folder>_configs/``, and
            ``<folder>.py`` of a track is merged into them.
        table: Name of the leaderboard its rows go to.
        family: What published tables call the task.
        dataset: Full-scale dataset; tracks have others that stand in for it.
        split: Evaluated split.
        metrics: Key an evaluation reports -> metric.
        read: Reads the protocol's fields; a row with an unknown field, None, is never ranked.
        place: Where its rows stand in tables, after those of smaller numbers.
        tested: ``val`` or ``test``, the loader whose images give the reported figure.
        overlay_part: Name of an overlay's part for it, if that is not the kind's own. Kinds may
            share one; a part named like the kind is merged after it.
        seconds: Expected duration on the sample, all of a run; None: no part of the quickstart.
        study: Column of the page's study on the sample -> metric and pool; empty: no part of it.
        dense: Whether it leaves ``per_class.json`` and a figure of predictions.
        variant_of: The kind whose evaluation this is under another protocol.
    """

    kind: str
    folder: str
    table: str
    family: str
    dataset: str
    split: str
    metrics: Mapping[str, Metric]
    read: Callable[[ProtocolReader], dict[str, Field]]
    place: int = 100
    tested: str = 'val'
    overlay_part: str = ''
    seconds: int | None = None
    study: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    dense: bool = False
    variant_of: str = ''

    @property
    def pools(self) -> tuple[str, ...]:
        """The pools that the task distinguishes."""
        return tuple(dict.fromkeys(m.pool for m in self.metrics.values() if m.pool))

    @cached_property
    def protocol_fields(self) -> tuple[str, ...]:
        """Names of the fields that every record of the task holds."""
        return tuple(self.read_protocol({}))

    @property
    def overlay_parts(self) -> tuple[str, ...]:
        """Names of an overlay's parts that are merged for it, in order."""
        return tuple(dict.fromkeys((self.overlay_part or self.kind, self.kind)))

    @property
    def has_leaves(self) -> bool:
        """Whether configs are named after it; tests at several scales use those of one scale."""
        return not self.kind.endswith(MULTI_SCALE)

    def leaf(self, student: str) -> str:
        """Return the path of the config that transfers a student."""
        return f'{self.folder}_configs/{self.kind}_{student}.py'

    def dataset_name(self, track: str) -> str:
        """Return the dataset's name in a track's records."""
        return get_track(track).data.get(self.dataset, self.dataset)

    def read_protocol(self, config: Mapping[str, Any], world_size: int = 1) -> dict[str, Field]:
        """Return all protocol fields of a resolved config, None for one that it does not tell."""
        protocol = ProtocolReader(config, world_size, self.tested)
        return {**self.read(protocol), **protocol.others()}


def variant(task: Task, kind: str, **changes: Any) -> Task:
    """Return the same evaluation under another protocol, of no part in quickstart and study.

    Its rows stand in the same table and are never ranked against the other's.
    """
    changes = {'overlay_part': task.overlay_part or task.kind, **changes}
    return replace(task, kind=kind, seconds=None, study={}, variant_of=task.kind, **changes)


def pooled(*pools: str) -> dict[str, Metric]:
    """Return top-1 accuracy of each pooled feature."""
    return {f'top1_{pool}': Metric('top1', pool) for pool in pools}


# Of tasks on ImageNet.
IMAGENET: dict[str, Any] = {
    'folder': 'cls',
    'table': 'classification',
    'family': 'classification',
    'dataset': 'imagenet-1k',
    'split': 'val',
}


def get_task(kind: str) -> Task:
    """Return the task of that kind.

    Raises:
        KeyError: If there is none; the message lists the kinds.
    """
    if kind not in TASKS:
        raise KeyError(f'no task is called {kind!r}; there are {", ".join(TASKS)}')
    return TASKS[kind]


def tasks_of_folder(folder: str) -> list[Task]:
    """Return the tasks whose leaves lie in ``<folder>_configs/``."""
    return [task for task in TASKS.values() if task.folder == folder and task.has_leaves]


def _find_tasks() -> Iterable[Task]:
    """The ``TASKS`` of every module of this package, variants last."""
    names = sorted(found.name for found in iter_modules([str(Path(__file__).parent)]))
    modules = [import_module(f'comad.tasks.{name}') for name in names if name != 'task']
    tasks = [task for module in modules for task in getattr(module, 'TASKS', ())]
    return sorted(tasks, key=lambda task: (bool(task.variant_of), task.place))


# Last, since the tasks' files need what stands above.
TASKS: dict[str, Task] = {task.kind: task for task in _find_tasks()}
TABLES = tuple(dict.fromkeys(task.table for task in TASKS.values()))
FOLDERS = tuple(dict.fromkeys(task.folder for task in TASKS.values()))
