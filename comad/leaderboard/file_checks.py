"""The files that records cite, as far as they are on this machine: are they still the same?"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from backbones.files import sha256_of
from comad.data.manifest import data_manifest
from comad.runs.place import pretrain_root
from comad.runs.record import Record, resolved_name
from comad.runs.resolved import read_resolved

KINDS = ('student files', 'checkpoints', 'resolved configs', 'data manifests')
STUDENTS, CHECKPOINTS, CONFIGS, DATA = KINDS
CHUNK = 1 << 20


@dataclass
class FileChecks:
    """What was compared.

    Attributes:
        checked: What -> number of records whose file is here and was compared.
        absent: What -> number of records whose file is not here.
        refused: One line per file that is another one than its record says.
        notes: One line per record whose data have another manifest by now.
    """

    checked: dict[str, int] = field(default_factory=lambda: dict.fromkeys(KINDS, 0))
    absent: dict[str, int] = field(default_factory=lambda: dict.fromkeys(KINDS, 0))
    refused: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def check_files(records: Iterable[Record], root: Path = Path()) -> FileChecks:
    """Compare the files that records cite with the digests that they cite.

    Weights and configs that differ are refused: the row belongs to other ones than those at hand.
    Data may have been checked or packed anew since, which the manifest cannot tell from other
    data: a note.

    Args:
        records: Accepted records.
        root: Folder that relative work dirs start from.
    """
    checks = FileChecks()
    digests: dict[Path, str | None] = {}
    for record in records:
        file, config = record.file, record.config
        for what, name, path, expected in _cited(record, root):
            if path not in digests:
                digests[path] = _sha256(path)
            found = digests[path]
            if found is None:
                checks.absent[what] += 1
                continue
            checks.checked[what] += 1
            if found != expected:
                checks.refused.append(
                    f'{file}: {name} is {expected[:12]}, {path} has {found[:12]}: changed or made '
                    'again since; run the evaluation again'
                )
        path = root / (config.work_dir or '') / resolved_name(record.task)
        # A config that is not the run's says nothing about the run's data.
        its_own = digests.get(path) == config.resolved_sha256
        _check_data(record, root, path if its_own else None, checks)
    return checks


def _cited(record: Record, root: Path) -> Iterable[tuple[str, str, Path, str]]:
    """What, the record's field, the file and its digest, for everything that the record cites."""
    student, checkpoint, config = record.student, record.checkpoint, record.config
    if digest := student.sha256:
        folder = Path(pretrain_root(record.sample)) / student.name
        path = folder / f'seed{record.seeds.pretrain}' / 'student.safetensors'
        yield STUDENTS, 'student.sha256', root / path, digest
    work_dir = root / (config.work_dir or '')
    if (digest := checkpoint.sha256) and checkpoint.file:
        yield CHECKPOINTS, 'checkpoint.sha256', work_dir / checkpoint.file, digest
    if digest := config.resolved_sha256:
        yield CONFIGS, 'config.resolved_sha256', work_dir / resolved_name(record.task), digest


def _check_data(record: Record, root: Path, path: Path | None, checks: FileChecks) -> None:
    """Compare with the manifests at the data roots that the resolved config at ``path`` names."""
    if (cited := record.manifest) is None:
        return
    found = None
    try:
        if path is not None:
            config = _below(read_resolved(path), root)
            found = data_manifest(config)
    except (OSError, ValueError, AttributeError):  # no config of ours
        found = None
    if found is None:
        checks.absent[DATA] += 1
        return
    checks.checked[DATA] += 1
    if found != cited:
        checks.notes.append(
            f'{record.file}: its data manifest is {cited[:12]}, the data here have {found[:12]}: '
            'measured on other data, or these were checked or packed again since'
        )


def _below(node: Any, root: Path, key: str = '') -> Any:
    """The config with relative data folders below ``root``."""
    if isinstance(node, dict):
        return {name: _below(value, root, name) for name, value in node.items()}
    if isinstance(node, (list, tuple)):
        return [_below(value, root, key) for value in node]
    return str(root / node) if key in ('root', 'data_root') and isinstance(node, str) else node


def _sha256(path: Path) -> str | None:
    """Hex digest of a file's bytes, None if there is no such file or it cannot be read."""
    try:
        return sha256_of(path) if path.is_file() else None  # neither a folder nor a device
    except (OSError, ValueError):
        return None
