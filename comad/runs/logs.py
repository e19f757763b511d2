"""What a run logged: the lines of the ``scalars.json`` in each start's folder, and their curves.

MMEngine begins a file per start. Nothing here raises on a folder that is missing, unreadable or
half written: what cannot be read is left out.
"""

import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

# A run's folder may be somebody else's: a file beyond this is no log of ours.
MAX_BYTES = 100_000_000
Entry = dict[str, Any]
Curve = dict[float, float]


def read_starts(folder: Path) -> list[list[Entry]]:
    """Return the logged lines of every start, oldest first.

    Lines of the training carry ``iter``; a validation counts in epochs if the training does.
    """
    return [list(_lines(path)) for path in sorted(Path(folder).glob('*/vis_data/scalars.json'))]


def read_curves(folder: Path, figures: Callable[[Entry], Mapping[str, float]]) -> dict[str, Curve]:
    """Return name -> step -> figure, sorted by both; none where the folder holds no log.

    A start that goes on from a checkpoint replaces what earlier ones logged from its first step on.

    Args:
        folder: A run's folder.
        figures: What a line has to say, by name.
    """
    curves: dict[str, Curve] = {}
    for entries in read_starts(folder):
        begun: set[str] = set()
        for entry in entries:
            step = entry['step']
            for name, value in figures(entry).items():
                curve = curves.setdefault(name, {})
                if name not in begun:
                    begun.add(name)
                    for later in [known for known in curve if known >= step]:
                        del curve[later]
                curve[step] = value
    return {name: dict(sorted(curves[name].items())) for name in sorted(curves)}


def is_number(value: Any) -> bool:
    """Whether a logged value is an int or a float, NaN and infinity included."""
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _lines(path: Path) -> Iterator[Entry]:
    try:
        text = '' if path.stat().st_size > MAX_BYTES else path.read_text('utf-8', 'replace')
    except OSError:
        return
    for line in text.splitlines():
        try:
            entry = json.loads(line)
        except (ValueError, RecursionError):
            continue  # the last line of a run that was killed may be cut
        if isinstance(entry, dict) and isinstance(entry.get('step'), int):
            yield entry
