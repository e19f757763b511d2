"""Checkpoint files on disk: written whole, with a digest, and found again when one is damaged.

Beside ``<name>`` lies ``<name>.sha256`` in sha256sum's format. It is written before the file gets
its name; while a file of the same name is replaced it holds both digests. So there is no moment in
which a complete file counts as damaged or a damaged one as complete.
"""

import hashlib
import os
import re
import shutil
import zipfile
from collections.abc import Sequence
from pathlib import Path

from mmengine.fileio import LocalBackend, register_backend

from backbones.checkpoints import CheckpointError
from backbones.files import atomic_path, sha256_of, write_text

POINTER = 'last_checkpoint'
SIDECAR = '.sha256'
BACKEND = 'verified'
# Checkpoints that a run goes on from; best_*.pth and official layouts are no such files.
NAME = re.compile(r'epoch_(\d+)(?:_iter_(\d+))?\.pth|iter_(\d+)\.pth')
TEMPORARY = re.compile(r'\..+\.\d+\.tmp')  # see `atomic_path`
MEGABYTE = 1e6


class VerifiedBackend(LocalBackend):
    """MMEngine's way of writing local files, atomic and with a digest."""

    def put(self, obj: bytes, filepath: str | Path) -> None:
        write_verified(filepath, obj)


register_backend(BACKEND, VerifiedBackend, force=True)


def write_verified(path: str | Path, content: bytes) -> None:
    """Write a file and its digest; what was there before stays until the new one is complete.

    Raises:
        CheckpointError: the disk is full, or writing failed otherwise.
    """
    path = Path(path)
    digest = hashlib.sha256(content).hexdigest()
    try:
        with atomic_path(path) as temporary:
            with open(temporary, 'wb') as handle:
                handle.write(content)
                handle.flush()
                os.fsync(handle.fileno())
            _write_sidecar(path, [*_valid_digests(path), digest])
        if len(_recorded(path)) > 1:
            _write_sidecar(path, [digest])
    except OSError as error:
        free = shutil.disk_usage(path.parent).free / MEGABYTE
        raise CheckpointError(
            f'{path.name} cannot be written to {path.parent}: {error.strerror or error}; '
            f'{len(content) / MEGABYTE:.1f} MB needed, {free:.1f} MB free; earlier checkpoints are '
            'as they were: go on with --resume'
        ) from error


def damage(path: Path) -> str | None:
    """What is wrong with a checkpoint, None if it is complete.

    Without a digest beside it, as before there were any, the checksums inside the file count.
    """
    if not path.is_file():
        return 'is missing'
    digests = _recorded(path)
    if digests:
        if sha256_of(path) in digests:
            return None
        return f'is damaged (its sha256 is not the one in {path.name}{SIDECAR})'
    try:
        with open(path, 'rb') as handle:
            if handle.read(2) == b'\x80\x02':  # PyTorch's older layout holds no checksums
                return None
        with zipfile.ZipFile(path) as archive:
            return 'is damaged (a checksum inside is wrong)' if archive.testzip() else None
    # zipfile says NotImplementedError of a compression that a flipped bit has invented.
    except (zipfile.BadZipFile, OSError, EOFError, ValueError, NotImplementedError) as error:
        return f'is damaged ({error})'


def check_checkpoint(path: str | Path) -> Path:
    """The path, if the file there is complete.

    Raises:
        CheckpointError: it is missing or damaged.
    """
    path = Path(path)
    if path.suffix == '.safetensors':
        raise CheckpointError(
            f"{path} holds a student's weights, not the state of a run; name one of its "
            'checkpoints, epoch_<N>.pth or iter_<N>.pth'
        )
    if reason := damage(path):
        raise CheckpointError(f'{path} {reason}')
    return path


def last_checkpoint(work_dir: str | Path) -> Path | None:
    """The checkpoint that ``last_checkpoint`` points to, None if the run has none.

    Raises:
        CheckpointError: it is missing or damaged, or the pointer names none.
    """
    pointer = Path(work_dir) / POINTER
    if not pointer.is_file():
        return None
    listed = _listed(pointer)
    if not listed:
        raise CheckpointError(f'{pointer} names no checkpoint')
    if reason := damage(listed[0]):
        raise CheckpointError(f'{pointer} points to {listed[0].name}, which {reason}')
    return listed[0]


def newest_valid(work_dir: str | Path) -> tuple[Path | None, list[str]]:
    """The newest complete checkpoint of a run, and a line on each newer one that is not.

    The run's own list comes first; other checkpoints in the folder, which may be an earlier run's,
    only where it is missing or holds no complete one.

    Raises:
        CheckpointError: there are checkpoints, but none is complete.
    """
    folder = Path(work_dir)
    listed = _listed(folder / POINTER)
    found = sorted((p for p in folder.glob('*.pth') if _place(p)), key=_place, reverse=True)
    problems = []
    if found and not listed:
        problems.append(f'{folder / POINTER} is missing')
    for path in dict.fromkeys([*listed, *found]):
        reason = damage(path)
        if reason is None:
            return path, problems
        problems.append(f'{path} {reason}')
    if problems:
        raise CheckpointError(
            f'nothing to resume from: {"; ".join(problems)}; start anew without --resume, or '
            'name another file with --resume CHECKPOINT'
        )
    return None, []


def point_to(work_dir: str | Path, names: Sequence[str]) -> None:
    """Swap ``last_checkpoint``: the checkpoints of the run, the newest first, one a line."""
    write_text(Path(work_dir) / POINTER, '\n'.join(names) + '\n')


def checkpoint_digest(path: Path) -> str:
    """sha256 of a complete checkpoint: the one beside it, or computed where there is none."""
    recorded = _recorded(path)
    return recorded[0] if len(recorded) == 1 else sha256_of(path)


def remove_checkpoint(path: Path) -> None:
    """Remove a checkpoint and then its digest."""
    path.unlink(missing_ok=True)
    _sidecar(path).unlink(missing_ok=True)


def clean_up(work_dir: str | Path) -> list[Path]:
    """Remove what a killed save left: temporary files, and digests without their file."""
    folder = Path(work_dir)
    left = [path for path in folder.glob('.*.tmp') if TEMPORARY.fullmatch(path.name)]
    left += [path for path in folder.glob(f'*.pth{SIDECAR}') if not path.with_suffix('').is_file()]
    for path in left:
        path.unlink(missing_ok=True)
    return left


def _place(path: Path) -> tuple[int, int] | None:
    """Where in a training a checkpoint was written, by its name: epochs, steps."""
    match = NAME.fullmatch(path.name)
    return (int(match[1] or 0), int(match[2] or match[3] or 0)) if match else None


def _listed(pointer: Path) -> list[Path]:
    if not pointer.is_file():
        return []
    # The run's folder may have been moved since: names count, not the folder written then.
    lines = pointer.read_bytes().decode(errors='replace').replace('\0', '?').splitlines()
    names = (Path(line.strip()).name for line in lines)
    return [pointer.with_name(name) for name in names if name not in ('', '.', '..')]


def _sidecar(path: Path) -> Path:
    return path.with_name(path.name + SIDECAR)


def _recorded(path: Path) -> list[str]:
    """The digests beside a file."""
    try:
        text = _sidecar(path).read_text(errors='replace')
    except FileNotFoundError:
        return []
    return re.findall(r'^([0-9a-f]{64})  ', text, re.M)


def _valid_digests(path: Path) -> list[str]:
    """What a file about to be replaced may be until then."""
    if not path.is_file():
        return []
    recorded = _recorded(path)
    return recorded or ([sha256_of(path)] if damage(path) is None else [])


def _write_sidecar(path: Path, digests: list[str]) -> None:
    text = ''.join(f'{digest}  {path.name}\n' for digest in dict.fromkeys(digests))
    write_text(_sidecar(path), text)
