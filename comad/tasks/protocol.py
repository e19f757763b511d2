"""Protocol fields, read from a resolved config: what has to be equal for two rows to compare.

A field is a short text or a number. Long parts of a config become their beginning plus a digest of
the whole, so equal fields mean equal parts. What belongs to the student (width, depth, weights) or
to the machine (folders, workers) is left out. How images were decoded, and whether they were made
smaller before, is not left to the machine: both are read with the data set.
"""

import hashlib
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from comad.data.shard_manifest import describe_images

Field = str | int | float | None
Reader = Callable[[Mapping[str, Any], int], Field]

MAX_CHARS = 240
DIGEST_CHARS = 12
# The student's own, where data lies, and how it is read: none of them is a choice of the protocol.
LEFT_OUT = frozenset(
    (
        '_scope_',
        'arch',
        'backend_args',
        'data_root',
        'depth',
        'embed_dim',
        'in_channels',
        'init_cfg',
        'num_heads',
        'patch_size',
        'root',
    )
)


# Optimizer wrappers that compute in a lower precision, and the type that each has by default.
AUTOCAST_DTYPES = {'AmpOptimWrapper': 'float16', 'AutocastOptimWrapper': 'bfloat16'}


def lookup(config: Mapping[str, Any], path: str) -> Any:
    """Return the entry at a dotted path (digits index lists), None where there is none."""
    node: Any = config
    for part in path.split('.'):
        if isinstance(node, Mapping) and part in node:
            node = node[part]
        elif isinstance(node, (list, tuple)) and part.isdigit() and int(part) < len(node):
            node = node[int(part)]
        else:
            return None
    return node


def describe(node: Any, left_out: frozenset[str] = LEFT_OUT) -> str | None:
    """Return a config part as text: ``Type(key=value, ...)``, keys sorted, lists in brackets.

    Texts above 240 characters are cut and end in ``#`` and a digest of the whole.
    """
    if node is None:
        return None
    text = _text(node, left_out)
    if len(text) <= MAX_CHARS:
        return text
    digest = hashlib.sha256(text.encode()).hexdigest()[:DIGEST_CHARS]
    return f'{text[: MAX_CHARS - DIGEST_CHARS - 5]}... #{digest}'


def part(path: str, *without: str) -> Reader:
    """Return a reader that describes the config part at ``path``, some of its keys left out."""
    left_out = LEFT_OUT.union(without)
    return lambda config, world_size: describe(lookup(config, path), left_out)


def model_without_backbone(config: Mapping[str, Any], world_size: int) -> Field:
    """Describe heads, neck, losses, preprocessing and test settings."""
    return describe(lookup(config, 'model'), LEFT_OUT | {'backbone'})


def length(config: Mapping[str, Any], world_size: int) -> Field:
    """Return the training length as ``90 epochs`` or ``160000 iterations``, optimizer steps."""
    loop = lookup(config, 'train_cfg') or {}
    if (iterations := loop.get('max_iters')) is not None:
        return f'{round(iterations / accumulation(config))} iterations'
    if (epochs := loop.get('max_epochs')) is not None:
        return f'{epochs} epochs'
    return None


def accumulation(config: Mapping[str, Any]) -> int:
    """Return the batches per optimizer step."""
    return lookup(config, 'optim_wrapper.accumulative_counts') or 1


def batch_size(config: Mapping[str, Any], world_size: int) -> Field:
    """Return the images per optimizer step: per process x processes x accumulation."""
    if (per_process := lookup(config, 'train_dataloader.batch_size')) is None:
        return None
    return per_process * world_size * accumulation(config)


def learning_rate(config: Mapping[str, Any], world_size: int) -> Field:
    """Return the peak learning rate, after --auto-scale-lr where it is on."""
    rate = lookup(config, 'optim_wrapper.optimizer.lr')
    if rate is None or not lookup(config, 'auto_scale_lr.enable'):
        return rate
    real = batch_size(config, world_size)
    return rate * real / lookup(config, 'auto_scale_lr.base_batch_size')


def precision(config: Mapping[str, Any], world_size: int) -> Field:
    """Return the precision of the training's forward pass."""
    default = AUTOCAST_DTYPES.get(lookup(config, 'optim_wrapper.type'))
    return str(lookup(config, 'optim_wrapper.dtype') or default) if default else 'float32'


def gradient_clipping(config: Mapping[str, Any], world_size: int) -> Field:
    """Describe the gradient clipping, ``none`` where there is none."""
    return describe(lookup(config, 'optim_wrapper.clip_grad')) or 'none'


def parameter_groups(config: Mapping[str, Any], world_size: int) -> Field:
    """Describe layer decay and other per-parameter rules, ``uniform`` where there are none."""
    rules = lookup(config, 'optim_wrapper.paramwise_cfg') or {}
    constructor = lookup(config, 'optim_wrapper.constructor')
    if not rules and not constructor:
        return 'uniform'
    return describe({'type': constructor or 'default', **rules})


def schedule(config: Mapping[str, Any], world_size: int) -> Field:
    """Describe the learning-rate schedule in optimizer steps, ``constant`` where there is none."""
    entries = [
        scale_schedule(entry, 1 / accumulation(config))
        for entry in lookup(config, 'param_scheduler') or ()
    ]
    return describe(entries or None) or 'constant'


def scale_schedule(entry: dict[str, Any], factor: float) -> dict[str, Any]:
    """A copy of a scheduler's config with all iteration counts multiplied by ``factor``."""
    if entry.get('by_epoch', True):
        return dict(entry)
    scaled = dict(entry)
    for key in ('begin', 'end', 'T_max', 'milestones'):
        if scaled.get(key) is not None:
            value = scaled[key]
            scaled[key] = (
                [round(one * factor) for one in value]
                if isinstance(value, (list, tuple))
                else round(value * factor)
            )
    return scaled


def extra_hooks(config: Mapping[str, Any], world_size: int) -> Field:
    """Describe the custom hooks (weight averaging is one), ``none`` where there are none."""
    return describe(lookup(config, 'custom_hooks') or None) or 'none'


def square(path: str) -> Reader:
    """Return a reader of an image size in pixels: ``224``, or ``1333x800`` if not square."""

    def read(config: Mapping[str, Any], world_size: int) -> Field:
        size = lookup(config, path)
        if isinstance(size, (list, tuple)) and len(size) == 2:
            return size[0] if size[0] == size[1] else f'{size[0]}x{size[1]}'
        return size

    return read


def pipeline_entry(path: str, transform: str, key: str) -> Reader:
    """Return a reader of one argument of the first transform of that type in a pipeline."""

    def read(config: Mapping[str, Any], world_size: int) -> Field:
        for entry in lookup(config, path) or ():
            if entry.get('type') == transform:
                return square(key)(entry, world_size)
        return None

    return read


def test_mode(config: Mapping[str, Any], world_size: int) -> Field:
    """Return ``single-scale``, or ``multi-scale 0.5-1.75 + flip``: relative to the validation."""
    pipeline = lookup(config, 'test_dataloader.dataset.pipeline') or ()
    augmented = [entry for entry in pipeline if entry.get('type') == 'TestTimeAug']
    if not augmented:
        return 'single-scale'
    steps = [step for choices in augmented[0]['transforms'] for step in choices]
    sizes = _resize_sizes(steps)
    single = _resize_sizes(lookup(config, 'val_dataloader.dataset.pipeline') or ())
    if not sizes or not single:
        return None
    text = f'multi-scale {min(sizes) / single[0]:g}-{max(sizes) / single[0]:g}'
    flips = any(step['type'] == 'RandomFlip' and step.get('prob') for step in steps)
    return text + ' + flip' if flips else text


def _resize_sizes(steps: Iterable[Mapping[str, Any]]) -> list[int]:
    """The shorter side of every Resize, px."""
    return [min(step['scale']) for step in steps if step['type'] == 'Resize']


def first_of(*readers: Reader) -> Reader:
    """Return a reader that gives the first field that is known."""

    def read(config: Mapping[str, Any], world_size: int) -> Field:
        found = (reader(config, world_size) for reader in readers)
        return next((value for value in found if value is not None), None)

    return read


def _with_reading(dataset: Mapping[str, Any]) -> dict[str, Any]:
    """ImageNet's config with its decoder, and how its shards were made if not of original bytes."""
    told = {'decode': 'pillow', **dataset}
    if (root := dataset.get('root')) is not None:
        images = describe_images(Path(root) / dataset.get('split', 'train'))
        told |= {'images': images} if images else {}
    return told


def _text(node: Any, left_out: frozenset[str]) -> str:
    if isinstance(node, Mapping):
        if str(node.get('type')).rpartition('.')[2] == 'ImageNetFolder':
            node = _with_reading(node)
        entries = (
            f'{key}={_text(node[key], left_out)}'
            for key in sorted(node)
            if key != 'type' and key not in left_out
        )
        return f'{node.get("type", "")}({", ".join(entries)})'
    if isinstance(node, (list, tuple)):
        return f'[{", ".join(_text(value, left_out) for value in node)}]'
    return str(node)
