"""Batches of any task as plain data, and back: what a saved step consists of."""

import random
from collections.abc import Callable
from importlib import import_module
from typing import Any

import numpy as np
import torch
from mmengine.structures import BaseDataElement
from torch import Tensor

# The only classes that a bundle can name; the file says a key of this table, never a module.
CLASSES = {
    'BaseDataElement': 'mmengine.structures',
    'InstanceData': 'mmengine.structures',
    'PixelData': 'mmengine.structures',
    'LabelData': 'mmengine.structures',
    'SegDataSample': 'mmseg.structures',
    'DetDataSample': 'mmdet.structures',
    'HorizontalBoxes': 'mmdet.structures.bbox',
    'BitmapMasks': 'mmdet.structures.mask',
    'PolygonMasks': 'mmdet.structures.mask',
}
KIND = '<class>'


def encode(value: Any) -> Any:
    """Containers, plain Python and tensors on the CPU for a batch; the reverse of `decode`.

    Raises:
        TypeError: something that is neither plain nor in `CLASSES`.
    """
    if value is None or type(value) in (bool, int, float, str, bytes):
        return value
    if isinstance(value, Tensor):
        return value.detach().to('cpu', copy=True)
    if isinstance(value, np.ndarray) and value.dtype.kind in 'biuf':
        # A copy: arrays may be negatively strided or read-only.
        return {KIND: 'ndarray', 'data': torch.from_numpy(np.array(value))}
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, dict):
        return {encode(key): encode(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        items = [encode(item) for item in value]
        return tuple(items) if isinstance(value, tuple) else items
    name = type(value).__name__
    if name not in CLASSES:
        raise TypeError(f'{name} has no plain form')
    if isinstance(value, BaseDataElement):
        # Fields are kept under their own names; `_gt_x` behind a property is set by it again.
        fields = {key: encode(item) for key, item in value.items()}
        return {KIND: name, 'metainfo': encode(value.metainfo), 'fields': fields}
    if name == 'HorizontalBoxes':
        return {KIND: name, 'data': encode(value.tensor)}
    return {KIND: name, 'masks': encode(value.masks), 'size': encode((value.height, value.width))}


def decode(value: Any, device: torch.device | str = 'cpu') -> Any:
    """The batch again, its tensors on ``device``.

    Raises:
        ValueError: a class that no bundle holds.
    """
    if isinstance(value, Tensor):
        return value.to(device)
    if isinstance(value, (list, tuple)):
        return type(value)(decode(item, device) for item in value)
    if not isinstance(value, dict):
        return value
    if KIND not in value:
        return {key: decode(item, device) for key, item in value.items()}
    name = value[KIND]
    if name == 'ndarray':
        return value['data'].numpy()
    if name not in CLASSES:
        raise ValueError(f'the bundle names the class {name!r}; known: {", ".join(CLASSES)}')
    kind = getattr(import_module(CLASSES[name]), name)
    if 'fields' in value:
        element = kind(metainfo=decode(value['metainfo'], device))
        for key, item in value['fields'].items():
            setattr(element, key, decode(item, device))
        return element
    if name == 'HorizontalBoxes':
        return kind(value['data'].to(device))
    return kind(decode(value['masks']), *value['size'])


def generator_states() -> dict[str, Callable[[], Any] | Any]:
    """States of Python's, numpy's and torch's generators, taken quickly; see `plain_states`."""
    states = {'python': random.getstate(), 'numpy': np.random.get_state()}
    states['torch'] = torch.get_rng_state()
    if torch.cuda.is_available():
        states['cuda'] = torch.cuda.get_rng_state()
    return states


def plain_states(states: dict[str, Any]) -> dict[str, Any]:
    """Generator states as plain data."""
    name, keys, *rest = states['numpy']
    return {**states, 'numpy': [name, torch.from_numpy(keys.astype(np.int64)), *rest]}


def restore_generators(states: dict[str, Any]) -> None:
    """Continue where `plain_states` was taken; without a GPU its state is left out."""
    version, words, gauss = states['python']
    random.setstate((version, tuple(words), gauss))
    name, keys, *rest = states['numpy']
    np.random.set_state((name, keys.numpy().astype(np.uint32), *rest))
    torch.set_rng_state(states['torch'])
    if 'cuda' in states and torch.cuda.is_available():
        torch.cuda.set_rng_state(states['cuda'])
