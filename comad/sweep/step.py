"""What a step of a grid is, and when it counts as done."""

import ast
import hashlib
import json
import os
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

from backbones.files import read_json, sha256_of


class SweepError(RuntimeError):
    """A grid that cannot be run as asked; the message is one line."""


@dataclass(frozen=True)
class Step:
    """One command of a grid.

    Args:
        name: Unique within a grid; grids that share a name share the step and its stamp.
        command: Argument list, run from the root folder; a first word ``python`` stands for the
            interpreter that runs the sweep.
        outputs: Files, relative to the root, that must exist afterwards.
        needs: Names of the steps whose outputs this one reads.
        sources: Config files whose contents, with those of their bases, decide the outcome.
        seconds: Expected duration on one core of an ordinary machine; only for the time left.
        files: What must be there before anything starts and no step makes, data and teachers, each
            with the line that says it is missing.
        processes: That the recipe is for.
        student: Whose step it is, where it is that of one.
        part: ``pretrain`` or the kind of task that it is for.
        early: Run as soon as it can be, before steps that others wait for.
    """

    name: str
    command: tuple[str, ...]
    outputs: tuple[str, ...]
    needs: tuple[str, ...] = ()
    sources: tuple[str, ...] = ()
    seconds: float = 30.0
    files: tuple[tuple[str, str], ...] = ()
    processes: int = 1
    student: str = ''
    part: str = ''
    early: bool = field(default=False, compare=False)


def config_sources(root: Path, *leaves: str) -> tuple[str, ...]:
    """Return each leaf and every config file below ``root`` it inherits from, leaf first.

    ``_base_`` is read from the syntax tree, so nothing is executed or imported; files of other
    packages (``mmseg::...``) are pinned by their versions and left out.
    """
    found: list[str] = []
    for leaf in leaves:
        waiting = [leaf]
        while waiting:
            path = waiting.pop(0)
            if path in found or not (root / path).is_file():
                continue
            found.append(path)
            bases = [base for base in _bases(root / path) if '::' not in base]
            waiting += [os.path.normpath(os.path.join(os.path.dirname(path), b)) for b in bases]
    return tuple(found)


def step_digest(root: Path, step: Step) -> str:
    """Return a digest of the command and of the contents of the config sources."""
    digest = hashlib.sha256(json.dumps([step.command, step.outputs]).encode())
    for source in step.sources:
        path = root / source
        contents = path.read_bytes() if path.is_file() else b'absent'
        digest.update(source.encode() + b'\0' + hashlib.sha256(contents).digest())
    return digest.hexdigest()


def outputs_digest(root: Path, step: Step) -> str:
    """Return a digest of the contents of a step's outputs, as later steps find them."""
    digest = hashlib.sha256()
    for output in step.outputs:
        try:
            state = (root / output).stat()
            digest.update(_file_digest(root / output, state.st_mtime_ns, state.st_size))
        except OSError:
            digest.update(b'absent')
    return digest.hexdigest()


def missing_outputs(root: Path, step: Step) -> list[str]:
    """Return the outputs of ``step`` that do not exist as files with contents."""
    return [o for o in step.outputs if not (root / o).is_file() or not (root / o).stat().st_size]


def read_stamp(path: Path) -> dict[str, Any]:
    """Return the JSON object in ``path``; an absent or unreadable file is an empty one."""
    try:
        return read_json(path)
    except (OSError, ValueError):
        return {}


@lru_cache(maxsize=4096)
def _file_digest(path: Path, mtime_ns: int, size: int) -> bytes:
    # Time and size belong to the key: a sweep asks for the same outputs many times.
    return bytes.fromhex(sha256_of(path))


def _bases(path: Path) -> list[str]:
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.Assign) and any(
            isinstance(target, ast.Name) and target.id == '_base_' for target in node.targets
        ):
            value = ast.literal_eval(node.value)
            return [value] if isinstance(value, str) else list(value)
    return []
