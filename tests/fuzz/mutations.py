"""What goes wrong with files and values: harmed bytes, other images, odd values in JSON."""

import copy
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from comad.data.decode import ORIENTATION

ODD = [
    *(None, True, 0, -1, 1.5, 1e30, float('nan'), float('inf'), 2**70, '', 'x', '../x', '\ud800'),
    *([], [1], [[]], {}, {'a': 1}, 'x' * 300, '0', 'nan'),
]
MODES = ('RGB', 'L', 'P', '1', 'RGBA', 'LA', 'CMYK', 'I;16')
SIZES = ((64, 64), (64, 64), (48, 64), (1, 1), (1, 900), (3, 2))
TEXTS = (b'', b'text', b'<html>no</html>', b'%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n')


def harm_bytes(draw: random.Random, path: Path) -> str:
    """Cut off, flip, repeat or replace the bytes of a file."""
    data = bytearray(path.read_bytes())
    way = draw.choice(['cut', 'flip', 'flip many', 'text', 'zeros', 'append', 'twice'])
    if way == 'cut':
        del data[draw.randrange(len(data) + 1) :]
    elif way.startswith('flip'):
        for _ in range(1 if way == 'flip' else 30):
            if data:
                # The beginning decides most.
                end = draw.choice([64, 2000, len(data)])
                data[draw.randrange(min(end, len(data)))] ^= 1 << draw.randrange(8)
    elif way == 'text':
        data = bytearray(draw.choice(TEXTS))
    elif way == 'zeros':
        start = draw.randrange(len(data) + 1)
        data[start : start + 50] = bytes(len(data[start : start + 50]))
    else:
        data += bytes(data) if way == 'twice' else b'\0' * draw.randrange(1, 3000)
    path.write_bytes(bytes(data))
    return f'{way} {path.name}'


def harm_image(draw: random.Random, path: Path) -> str:
    """Another image in the place of one, harmed bytes, or none."""
    way = draw.choice(['bytes', 'bytes', 'image', 'image', 'image', 'gone', 'folder', 'link'])
    if way == 'bytes':
        return harm_bytes(draw, path)
    if way != 'image':
        path.unlink()
        if way == 'folder':
            path.mkdir()
        elif way == 'link':
            path.symlink_to('nowhere')
        return f'{way} {path.name}'
    mode, size, top = draw.choice(MODES), draw.choice(SIZES), draw.choice([1, 11, 12, 255])
    pixels = np.random.default_rng(draw.randrange(99)).integers(0, top + 1, (size[1], size[0], 3))
    if mode == 'I;16':
        image = Image.fromarray((pixels[..., 0] * 257).astype(np.uint16))
    elif mode in 'LP':
        image = Image.fromarray(pixels[..., 0].astype(np.uint8))
    else:
        image = Image.fromarray(pixels.astype(np.uint8)).convert(mode)
    exif = Image.Exif()
    exif[ORIENTATION] = draw.choice([1, 3, 6, 99])
    kind = 'JPEG' if mode in ('RGB', 'L', 'CMYK') and draw.random() < 0.5 else 'PNG'
    if mode == 'CMYK' and kind == 'PNG':
        image = image.convert('RGB')
    image.save(path, kind, exif=exif)
    return f'{mode} {kind} {size} up to {top} as {path.name}'


def places(node: Any) -> Iterator[tuple[Any, Any]]:
    """Every container below with each of its keys."""
    if isinstance(node, (dict, list)):
        for key in list(node) if isinstance(node, dict) else range(len(node)):
            yield node, key
            yield from places(node[key])


def harm_json(draw: random.Random, content: Any) -> str:
    """Delete, replace, repeat or exchange something of parsed JSON, in place."""
    container, key = draw.choice(list(places(content)) or [({}, 'x')])
    way = draw.choice(['delete', 'odd', 'odd', 'odd', 'repeat', 'exchange'])
    if way == 'delete':
        container.pop(key, None) if isinstance(container, dict) else container.pop(key)
    elif way == 'repeat' and isinstance(container, list):
        container.append(copy.deepcopy(container[key]))
    elif way == 'exchange':
        other, place = draw.choice(list(places(content)))
        container[key] = copy.deepcopy(other[place])
    else:
        container[key] = copy.deepcopy(draw.choice(ODD))
        return f'{key!r} is {container[key]!r:.40}'
    return f'{way} {key!r}'
