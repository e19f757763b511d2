"""What a run's folder holds for the report: figures per class, a picture.

Nothing here raises on a folder that is missing, unreadable or half written: the answer is empty,
and the page says so.
"""

import math
from pathlib import Path, PurePosixPath
from typing import Any

from backbones.files import read_json as read_object
from comad.runs.record import Record

PER_CLASS = 'per_class.json'
MAX_JSON_BYTES = 1_000_000


def transfer_folder(root: Path, record: Record) -> Path | None:
    """Folder of the evaluation that wrote ``record``; None where it is not below ``root``."""
    return _below(root, record.data['config']['work_dir'])


def pretrain_folder(root: Path, record: Record) -> Path | None:
    """Folder of the student's pretraining; None where it is not below ``root`` or not the same.

    A folder whose student.json names another digest than the record belongs to a later run.
    """
    data = record.data
    if data['student']['sha256'] is None:
        return None
    home = 'work_dirs/sample/pretrain' if data['sample'] else 'work_dirs/pretrain'
    folder = _below(root, f'{home}/{data["student"]["name"]}/seed{data["seeds"]["pretrain"]}')
    if folder is None:
        return None
    card = read_json(folder / 'student.json')
    digest = card.get('sha256') if isinstance(card, dict) else None
    return folder if digest in (None, data['student']['sha256']) else None


def read_per_class(folder: Path) -> dict[str, dict[str, float | None]]:
    """Read metric -> class -> percent from per_class.json; None for a class without a figure."""
    found = read_json(folder / PER_CLASS)
    metrics = found.get('metrics') if isinstance(found, dict) else None
    if not isinstance(metrics, dict):
        return {}
    return {
        str(metric): {str(name): _figure(value) for name, value in classes.items()}
        for metric, classes in metrics.items()
        if isinstance(classes, dict)
    }


def read_json(path: Path) -> Any:
    """Return what a small JSON file holds, None where it cannot be read."""
    try:
        if path.stat().st_size > MAX_JSON_BYTES:
            return None
        return read_object(path)
    except (OSError, ValueError):
        return None


def number(value: Any) -> float | None:
    """Return ``value`` as a finite float, None if it is no such number."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    return float(value) if math.isfinite(value) else None


def _figure(value: Any) -> float | None:
    found = number(value)
    return found if found is not None and 0 <= found <= 100 else None


def _below(root: Path, place: Any) -> Path | None:
    # A record must not lead out of the project's folder; a linked work_dirs is the user's own.
    if not isinstance(place, str) or not place or '\0' in place:
        return None
    parts = PurePosixPath(place)
    if parts.is_absolute() or '..' in parts.parts:
        return None
    folder = root / parts
    return folder if folder.is_dir() else None
