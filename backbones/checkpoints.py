"""Reading and writing weight files: the only place in the project that unpickles anything.

Files are read with ``weights_only=True``. The single class allowed besides tensors and plain
Python is ``argparse.Namespace``, because the official MAE and iBOT training code stores its
command-line arguments in every checkpoint; a Namespace holds data and runs no code.
"""

import argparse
import hashlib
import pickle
import re
import zipfile
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from .files import atomic_path, digest_of, read_json, sha256_of

# What a directory is read from: transformers' and timm's names first, else its only weight file.
DIRECTORY_FILES = ('model.safetensors', 'pytorch_model.bin')
SUFFIXES = ('.safetensors', '.bin', '.pth', '.pt', '.tar')
MAX_NAMES = 3  # keys named in one error line; more would bury the message


class CheckpointError(RuntimeError):
    """A weight file is missing, unreadable, unsafe or does not fit the network."""


def read_checkpoint(path: str | Path) -> dict[str, Any]:
    """Read a ``.safetensors`` file or a PyTorch checkpoint without running any code from it.

    A directory stands for its only weight file, see `find_file`.

    Returns:
        The stored dictionary; tensors are on the CPU.

    Raises:
        CheckpointError: the file is missing, truncated, not a checkpoint, or holds objects other
            than tensors, plain Python and ``argparse.Namespace``.
    """
    path = find_file(path)
    if path.suffix == '.safetensors':
        try:
            return load_file(path)
        except (SafetensorError, OSError) as error:
            raise CheckpointError(f'{path} is not a readable safetensors file: {error}') from error
    with open(path, 'rb') as handle:
        start = handle.read(2)
    if start not in (b'PK', b'\x80\x02'):  # torch.save's zip and its older bare pickle
        raise CheckpointError(f'{path} is not a PyTorch checkpoint (it starts with {start!r})')
    try:
        if start == b'PK':
            _check_records(path)
        with torch.serialization.safe_globals([argparse.Namespace]):
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

    Raises:
        CheckpointError: nothing there, or a directory with none or several weight files.
    """
    path = Path(path)
    if path.is_file():
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
            set(torch.serialization.get_unsafe_globals_in_checkpoint(path)) - {'argparse.Namespace'}
        )
    except Exception:  # the file is hostile or broken: whatever fails here, it stays refused
        unsafe = []
    if unsafe:
        return (
            f'it wants to import {", ".join(unsafe[:MAX_NAMES])}; only tensors, plain Python and '
            'argparse.Namespace are read'
        )
    return 'it is not a plain PyTorch checkpoint (a text file, or a pickle of other objects)'


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
) -> None:
    """Copy ``tensors`` into ``module``: every tensor of both sides, or nothing at all.

    Args:
        new: The module's tensors that no file holds; they stay as they are.

    Raises:
        CheckpointError: names the missing, unexpected or wrongly shaped tensors.
    """
    whole = module.state_dict()
    own = {name: tensor for name, tensor in whole.items() if name not in new}
    missing = sorted(own.keys() - tensors.keys())
    extra = sorted(tensors.keys() - own.keys())
    shapes = [
        f'{name} is {tuple(tensors[name].shape)}, the network has {tuple(own[name].shape)}'
        for name in sorted(own.keys() & tensors.keys())
        if tensors[name].shape != own[name].shape
    ]
    problems = [
        _listed('missing', missing),
        _listed('unexpected', extra),
        _listed('of wrong shape', shapes),
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
