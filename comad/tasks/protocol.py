"""A resolved config that is read as a protocol: what fields tell of it, and digests of the rest.

Left out is what belongs to the student (width, depth, weights) or to the machine (folders,
workers). How images are decoded, and whether they were made smaller before, is read with the data.
"""

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from backbones.architectures import architecture_of
from comad.data.manifest import describe_images

Field = str | int | float | None
Config = Mapping[str, Any]

# Digests of what no field tells: of model and training, and of the test.
DIGESTS = ('other_settings', 'other_test_settings')
# What a test decides; everything else is the training's.
TEST_FIELDS = frozenset(
    ('test_data', 'test_view', 'test_crop', 'test_size', 'test_mode', DIGESTS[1])
)
# Parts of a config that can change a training.
TRAINING = (
    *('model', 'train_dataloader', 'optim_wrapper', 'param_scheduler', 'train_cfg'),
    *('custom_hooks', 'default_hooks', 'sync_bn'),
)
LEFT_OUT = frozenset(
    (
        *('_scope_', 'backend_args', 'data_root', 'fused', 'in_channels', 'patch_size', 'root'),
        *('batch_size', 'num_workers', 'persistent_workers', 'pin_memory', 'prefetch_factor'),
    )
)
# The student's own, beside whatever its architecture states.
BACKBONE_OWN = ('type', 'arch', 'img_size', 'embed_dim', 'depth', 'num_heads', 'init_cfg')
# Hooks that look on, write and stop; all others count.
OBSERVERS = (
    *('runtime_info', 'timer', 'logger', 'wall_time', 'throughput', 'visualization', 'best'),
    *('checkpoint', 'plain_checkpoint', 'preemption', 'bad_images', 'loss_check'),
    *('prediction_figure', 'per_class', 'run_record', 'multi_scale'),
)
NOT_PROTOCOL = frozenset(
    (
        *(f'model.backbone.{key}' for key in BACKBONE_OWN),
        *(f'default_hooks.{name}' for name in OBSERVERS),
        *('train_cfg.val_interval', 'train_cfg.val_begin', 'train_cfg.dynamic_intervals'),
        *('val_evaluator.ann_file', 'test_evaluator.ann_file', 'optim_wrapper.accumulative_counts'),
        'model.test_cfg',  # the test's
    )
)
MAX_CHARS, DIGEST_CHARS = 240, 12


class ProtocolReader:
    """A resolved config that remembers which of its entries a field tells completely.

    Args:
        config: The config as plain Python.
        processes: Of the training.
        tested: ``val`` or ``test``, the loader whose images give the reported figure.
    """

    def __init__(self, config: Config, processes: int = 1, tested: str = 'val') -> None:
        factor = 1 / (lookup(config, 'optim_wrapper.accumulative_counts') or 1)
        steps = lookup(config, 'param_scheduler') or []
        steps = [steps] if isinstance(steps, Mapping) else steps
        self.config = {**config, 'param_scheduler': [scale_schedule(s, factor) for s in steps]}
        self.processes, self.tested = processes, tested
        network = architecture_of(self.get('model.backbone.arch', ''))
        self.told = {*NOT_PROTOCOL, *(f'model.backbone.{key}' for key in network)}

    def get(self, path: str, default: Any = None) -> Any:
        """The entry at a dotted path; ``default`` where there is none or it is None."""
        value = lookup(self.config, path)
        return default if value is None else value

    def tell(self, path: str, default: Any = None) -> Any:
        """`get` for a field from which the entry can be recovered: the digests leave it out."""
        self.told.add(path)
        return self.get(path, default)

    def first(self, entries: str, kind: str) -> str:
        """Path of the first entry of that type in a list; one that leads nowhere if none is."""
        for number, entry in enumerate(self.get(entries, ())):
            if entry.get('type') == kind:
                return f'{entries}.{number}'
        return f'{entries}.none'

    def data(self, path: str) -> Field:
        """The data set's config but for its views or pipeline, which other fields tell.

        Whether items tell their index changes none of them.
        """
        if not isinstance(node := self.get(path), Mapping):
            return None
        self.told.add(f'{path}.with_index')
        hidden = ('views', 'pipeline', 'with_index')
        shown = {k: v for k, v in _with_reading(node).items() if k not in hidden}
        text = self._text(shown, path)
        self.told |= {f'{path}.{key}' for key in shown}
        digest = '' if len(text) <= MAX_CHARS else f'... {_digest(text)}'
        return text[: MAX_CHARS - len(digest)] + digest

    def others(self) -> dict[str, Field]:
        """`DIGESTS` of what has not been told."""
        test = ('dataloader.dataset', 'evaluator', 'cfg')
        tested = (*(f'{self.tested}_{part}' for part in test), 'model.test_cfg')
        parts = (TRAINING, (*tested, 'default_hooks.multi_scale'))
        return dict(zip(DIGESTS, map(self._digest_of, parts), strict=True))

    def _digest_of(self, paths: Sequence[str]) -> str:
        parts = [(path, self.get(path)) for path in paths]
        return _digest('; '.join(f'{p}={self._text(node, p)}' for p, node in parts if node))

    def _text(self, node: Any, path: str) -> str:
        """``Type(key=value, ...)``, keys sorted, lists in brackets, without what has been told."""
        if isinstance(node, Mapping):
            node = _with_reading(node)
            entries = (
                f'{key}={self._text(node[key], f"{path}.{key}")}'
                for key in sorted(node, key=str)
                if key != 'type' and key not in LEFT_OUT and f'{path}.{key}' not in self.told
            )
            kind = '' if f'{path}.type' in self.told else node.get('type', '')
            return f'{kind}({", ".join(entries)})'
        if isinstance(node, (list, tuple)):
            texts = (self._text(value, f'{path}.{number}') for number, value in enumerate(node))
            return f'[{", ".join(texts)}]'
        return str(node)


def recipe_processes(config: Mapping[str, Any]) -> int:
    """Processes with which a config gives the recipe's batch; 1 where it trains nothing.

    Also 1 where the rate follows whatever the batch is.
    """
    base = lookup(config, 'auto_scale_lr.base_batch_size')
    batch = lookup(config, 'train_dataloader.batch_size')
    if not base or not batch or lookup(config, 'auto_scale_lr.enable'):
        return 1
    return max(1, base // (batch * (lookup(config, 'optim_wrapper.accumulative_counts') or 1)))


def lookup(config: Any, path: str) -> Any:
    """Return the entry at a dotted path (digits index lists), None where there is none."""
    node = config
    for part in path.split('.'):
        if isinstance(node, Mapping) and part in node:
            node = node[part]
        elif isinstance(node, (list, tuple)) and part.isdigit() and int(part) < len(node):
            node = node[int(part)]
        else:
            return None
    return node


def scale_schedule(entry: Config, factor: float) -> dict[str, Any]:
    """A copy of a scheduler's config with all iteration counts multiplied by ``factor``."""
    scaled = dict(entry)
    if entry.get('by_epoch', True):
        return scaled
    for key in ('begin', 'end', 'T_max', 'milestones'):
        if (value := scaled.get(key)) is not None:
            several = isinstance(value, (list, tuple))
            scaled[key] = [round(v * factor) for v in value] if several else round(value * factor)
    return scaled


def _with_reading(dataset: Config) -> Config:
    """ImageNet's config with its decoder, and how its shards were made if not of original bytes."""
    if str(dataset.get('type')).rpartition('.')[2] != 'ImageNetFolder':
        return dataset
    told = {'decode': 'pillow', **dataset}
    if (root := dataset.get('root')) is not None:
        images = describe_images(Path(root) / dataset.get('split', 'train'))
        told |= {'images': images} if images else {}
    return told


def _digest(text: str) -> str:
    return '#' + hashlib.sha256(text.encode()).hexdigest()[:DIGEST_CHARS]
