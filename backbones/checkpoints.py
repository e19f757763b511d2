"""Reading and writing weight files: the only place in the project that unpickles anything.

Files are read with ``weights_only=True``. Allowed besides tensors and plain Python are
``argparse.Namespace``, because the official MAE and iBOT training code stores its command-line
arguments in every checkpoint, and NumPy's numbers, which accuracies beside weights often are: they
hold data and run no code.
"""

import argparse
import hashlib
import pickle
import re
import zipfile
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from .files import atomic_path, digest_of, read_json, sha256_of

# What a directory is read from: transformers' and timm's names first, else its only weight file.
INDEX = '.index.json'  # of weights in several files, as transformers writes it
NAMES = ('model.safetensors', 'pytorch_model.bin')
DIRECTORY_FILES = (*NAMES, *(name + INDEX for name in NAMES))
PART = re.compile(r'-\d{5}-of-\d{5}(?=\.)')
SUFFIXES = ('.safetensors', '.bin', '.pth', '.pt', '.tar')
MAX_NAMES = 3  # keys named in one error line; more would bury the message
NUMBERS = ('Bool', 'Float16', 'Float32', 'Float64', 'Int8', 'Int16', 'Int32', 'Int64', 'UInt8')
# NumPy 2 has moved the function; files name either place.
SCALAR = [
    (np.float64(0).__reduce__()[0], f'numpy.{core}.multiarray.scalar') for core in ('core', '_core')
]
SAFE = [
    argparse.Namespace,
    *SCALAR,
    np.dtype,
    *(getattr(np.dtypes, f'{name}DType') for name in NUMBERS),
]
# How files begin that are none of weights, and what they are.
STARTS = {
    b'': 'is empty',
    b'version https://git-lfs': 'is a Git LFS pointer, not the weights: git lfs pull fetches them',
    b'<!DOCTYPE': 'is a web page, not the weights',
    b'<html': 'is a web page, not the weights',
}


class CheckpointError(RuntimeError):
    """A weight file is missing, unreadable, unsafe or does not fit the network."""


def read_checkpoint(path: str | Path) -> dict[str, Any]:
    """Read a ``.safetensors`` file or a PyTorch checkpoint without running any code from it.

    A directory stands for its only weight file, see `find_file`; an index for all of its parts.

    Returns:
        The stored dictionary; tensors are on the CPU.

    Raises:
        CheckpointError: the file is missing, truncated, not a checkpoint, or holds objects other
            than tensors, plain Python, NumPy's numbers and ``argparse.Namespace``.
    """
    path = find_file(path)
    return _read_parts(path) if path.name.endswith(INDEX) else _read_file(path)


def _read_file(path: Path) -> dict[str, Any]:
    with open(path, 'rb') as handle:
        start = handle.read(24)
    for begin, what in STARTS.items():
        if start.startswith(begin) if begin else not start:
            raise CheckpointError(f'{path} {what}')
    if path.suffix == '.safetensors':
        try:
            return load_file(path)
        except (SafetensorError, OSError) as error:
            raise CheckpointError(f'{path} is not a readable safetensors file: {error}') from error
    start = start[:2]
    if start not in (b'PK', b'\x80\x02'):  # torch.save's zip and its older bare pickle
        raise CheckpointError(f'{path} is not a PyTorch checkpoint (it starts with {start!r})')
    try:
        if start == b'PK':
            _check_records(path)
        with torch.serialization.safe_globals(SAFE):
            content = torch.load(path, map_location='cpu', weights_only=True)
    except CheckpointError:
        raise
    except pickle.UnpicklingError as error:
        raise CheckpointError(f'{path} is refused: {_unsafe_reason(path)}') from error
    except Exception as error:  # a hostile or damaged file may fail in any way
        reason = str(error).splitlines()[0][:160] if str(error) else type(error).__name__
        raise CheckpointError(
            f'{path} is truncated or not a PyTorch checkpoint: {reason}'
        ) from error
    if not isinstance(content, Mapping):
        raise CheckpointError(
            f'{path} holds a {type(content).__name__}, not a dictionary of tensors'
        )
    return dict(content)


def _read_parts(index: Path) -> dict[str, Any]:
    """The tensors of all the files that an index names."""
    places = _parts(index)
    tensors: dict[str, Any] = {}
    for name in sorted(set(places.values())):
        tensors |= _read_file(index.with_name(name))
    if missing := sorted(places.keys() - tensors.keys()):
        raise CheckpointError(f'{index} names tensors that its files lack: {_listed("", missing)}')
    return tensors


def _parts(index: Path) -> dict[str, str]:
    """Tensor name -> file beside the index."""
    places = read_card(index).get('weight_map')
    if not isinstance(places, dict) or not places:
        raise CheckpointError(f'{index} is no index of weights: no weight_map')
    for name in places.values():
        if not isinstance(name, str) or Path(name).name != name or name.endswith(INDEX):
            raise CheckpointError(f'{index} names {name!r:.60}; files beside it are expected')
        if not (index.parent / name).is_file():
            raise CheckpointError(f'{index} names {name[:60]}, which is not there')
    return places


def files_behind(path: Path) -> list[Path]:
    """The files that hold what `read_checkpoint` reads of a file: itself, or an index's parts."""
    if not path.name.endswith(INDEX):
        return [path]
    return [path, *(path.with_name(name) for name in sorted(set(_parts(path).values())))]


def _check_records(path: Path) -> None:
    """Refuse an archive that would unfold to more than the file holds; torch.save never packs."""
    with zipfile.ZipFile(path) as archive:
        records = archive.infolist()
    packed = [record.filename for record in records if record.compress_type != zipfile.ZIP_STORED]
    if packed:
        raise CheckpointError(f'{path} is refused: its record {packed[0]} is compressed')
    claimed, size = sum(record.file_size for record in records), path.stat().st_size
    if claimed > size:
        raise CheckpointError(f'{path} is refused: {size} bytes claim to hold {claimed}')


def find_file(path: str | Path) -> Path:
    """The weight file at a path: the file itself, or the only one of a directory.

    Of weights in several files it is their index.

    Raises:
        CheckpointError: nothing there, or a directory with none or several weight files; a part.
    """
    path = Path(path)
    if path.is_file():
        index = path.with_name(PART.sub('', path.name) + INDEX)
        if index.name != path.name + INDEX and index.is_file():
            raise CheckpointError(f'{path} is a part of the weights: name {index} or the folder')
        return path
    if not path.is_dir():
        raise CheckpointError(f'{path} does not exist; a weight file is expected there')
    inside = [path / name for name in DIRECTORY_FILES if (path / name).is_file()]
    inside = inside[:1] or sorted(p for p in path.iterdir() if p.name.endswith(SUFFIXES))
    if len(inside) != 1:
        names = ', '.join(p.name for p in inside[:MAX_NAMES]) or f'none of *{", *".join(SUFFIXES)}'
        raise CheckpointError(f'{path} is a directory with {names}; name one weight file')
    return inside[0]


def check_pin(path: Path, sha256: str | None = None, md5: str | None = None) -> None:
    """Compare a file with the start of its published digests.

    Args:
        sha256, md5: Hex digits, all or the first ones; at least 6.

    Raises:
        CheckpointError: naming both digests.
        ValueError: a pin that is no such string.
    """
    for name, pin in (('sha256', sha256), ('md5', md5)):
        if pin is None:
            continue
        if path.name.endswith(INDEX):
            raise CheckpointError(f'{path}: {name} pins a single file, these are several')
        if not re.fullmatch(r'[0-9a-f]{6,64}', str(pin).lower()):
            raise ValueError(f'{name}={pin!r}: expected at least 6 hex digits')
        digest = digest_of(path, name)
        if not digest.startswith(str(pin).lower()):
            raise CheckpointError(
                f'{path} has {name} {digest[: max(12, len(pin))]}, expected {pin}: another file, '
                'or a damaged one'
            )


def _unsafe_reason(path: Path) -> str:
    """What in the file is not plain data, in one phrase."""
    try:
        unsafe = sorted(
            set(torch.serialization.get_unsafe_globals_in_checkpoint(path)) - _safe_names()
        )
    except Exception:  # the file is hostile or broken: whatever fails here, it stays refused
        unsafe = []
    if unsafe:
        return (
            f'it wants to import {", ".join(unsafe[:MAX_NAMES])}; only tensors, plain Python, '
            "NumPy's numbers and argparse.Namespace are read: save its tensors alone"
        )
    return 'it is not a plain PyTorch checkpoint (a text file, or a pickle of other objects)'


def _safe_names() -> set[str]:
    named = (entry[1] for entry in SCALAR)
    return {
        *named,
        *(f'{kind.__module__}.{kind.__qualname__}' for kind in SAFE if isinstance(kind, type)),
    }


def write_safetensors(path: str | Path, tensors: Mapping[str, torch.Tensor]) -> str:
    """Write bare tensors atomically and return the file's sha256."""
    plain = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    with atomic_path(path) as temporary:
        save_file(plain, temporary)
    return sha256_of(path)


def write_torch(path: str | Path, content: Any) -> None:
    """``torch.save``, atomically."""
    with atomic_path(path) as temporary:
        torch.save(content, temporary)


def read_card(path: str | Path) -> dict[str, Any]:
    """Read a student's JSON card.

    Raises:
        CheckpointError: missing or not a JSON object.
    """
    try:
        return read_json(path)
    except OSError as error:
        raise CheckpointError(
            f'{path} is missing: a student is a student.safetensors with its student.json beside it'
        ) from error
    except ValueError as error:
        raise CheckpointError(str(error)) from error


def tensor_digest(tensors: Iterable[tuple[str, torch.Tensor]]) -> str:
    """Hex sha256 over names, dtypes, shapes and bytes; independent of the order given."""
    digest = hashlib.sha256()
    for name, tensor in sorted(tensors, key=lambda item: item[0]):
        plain = tensor.detach().cpu().contiguous()
        digest.update(f'{name}|{plain.dtype}|{tuple(plain.shape)}|'.encode())
        digest.update(plain.reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def fill_completely(
    module: torch.nn.Module,
    tensors: Mapping[str, torch.Tensor],
    source: str | Path,
    new: Collection[str] = (),
    finite: bool = True,
) -> None:
    """Copy ``tensors`` into ``module``: every tensor of both sides, or nothing at all.

    Args:
        new: The module's tensors that no file holds; they stay as they are.
        finite: Whether NaN and infinity are refused.

    Raises:
        CheckpointError: names the tensors that are missing, unexpected, of another shape or
            another kind of number, as quantized ones are, or hold NaN or infinity.
    """
    whole = module.state_dict()
    own = {name: tensor for name, tensor in whole.items() if name not in new}
    missing = sorted(own.keys() - tensors.keys())
    extra = sorted(tensors.keys() - own.keys())
    shared = sorted(own.keys() & tensors.keys())
    shapes = [
        f'{name} is {tuple(tensors[name].shape)}, the network has {tuple(own[name].shape)}'
        for name in shared
        if tensors[name].shape != own[name].shape
    ]
    broken = [
        name
        for name in shared
        if finite and tensors[name].is_floating_point() and not tensors[name].isfinite().all()
    ]
    kinds = [
        f'{name} is {tensors[name].dtype}'.replace('torch.', '')
        for name in shared
        if tensors[name].is_floating_point() != own[name].is_floating_point()
    ]
    problems = [
        _listed('missing', missing),
        _listed('unexpected', extra),
        _listed('of wrong shape', shapes),
        _listed('of wrong kind, whole or real numbers', kinds),
        _listed('with NaN or infinity', broken),
    ]
    if any(problems):
        raise CheckpointError(
            f'{source} does not fit the network completely: '
            + '; '.join(problem for problem in problems if problem)
        )
    module.load_state_dict({**whole, **tensors}, strict=True)


def _listed(what: str, names: list[str]) -> str:
    if not names:
        return ''
    more = f' and {len(names) - MAX_NAMES} more' if len(names) > MAX_NAMES else ''
    return f'{len(names)} tensors {what} ({", ".join(names[:MAX_NAMES])}{more})'
