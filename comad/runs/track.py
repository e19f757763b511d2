"""Tracks: the sizes that everything comes in, each a folder of overlays in base_configs/tracks/.

``full`` is the leaves as they are. A folder ``base_configs/tracks/<name>/`` makes another: its
``<folder>.py`` are merged over the leaves of ``<folder>_configs/``, and ``track.py``, which holds
literals alone and is read without being executed, says what `Track` explains. Tables, records and
students of a track lie below its own name and never meet those of another.
"""

import ast
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from functools import cache
from pathlib import Path

from backbones.names import meant

# `FULL` has no folder; `SAMPLE` is what ``--sample`` is short for.
FULL, SAMPLE = 'full', 'sample'
FOLDER = Path('base_configs/tracks')
NAME = re.compile(r'[a-z0-9][a-z0-9_]*')
# Names of folders that stand beside those of tracks, below work_dirs/ or results/.
TAKEN = (FULL, 'pretrain', 'own', 'records', 'benchmarks', 'sweep')


@dataclass(frozen=True)
class Track:
    """One track.

    Args:
        name: Its folder's name.
        title: In a few words, ``the embedded sample``.
        data: Public data set -> the one whose images stand in for it, by the names of records.
        tasks: Kinds of its study; all that its networks are transferred to where none is named.
        students: Those of its study, by their configs; CoMAD, its ablations and rivals by default.
        stand_ins: Whether networks, teachers and data are small ones of its own, as the embedded
            sample's are.
    """

    name: str
    title: str
    data: Mapping[str, str] = field(default_factory=dict)
    tasks: tuple[str, ...] = ()
    students: tuple[str, ...] = ()
    stand_ins: bool = False

    @property
    def option(self) -> str:
        """What commands are told, with a space before it; nothing at full scale."""
        if self.name == FULL:
            return ''
        return ' --sample' if self.name == SAMPLE else f' --track {self.name}'

    @property
    def folder(self) -> Path:
        """Its part of ``work_dirs`` and ``results``, seen from there."""
        return Path() if self.name == FULL else Path(self.name)

    def overlay(self, name: str) -> Path | None:
        """File of its overlay of that name, relative to the suite's files; None at full scale."""
        return None if self.name == FULL else FOLDER / self.name / f'{name}.py'


def track_names(files: Path) -> tuple[str, ...]:
    """All tracks whose folders lie in ``files``, the one without a folder first."""
    found = (path.name for path in (files / FOLDER).glob('*') if path.is_dir())
    return FULL, *sorted(name for name in found if NAME.fullmatch(name))


@cache
def load_track(name: str, files: Path) -> Track:
    """Return the track of that name.

    Raises:
        ValueError: There is none, its name is taken, or its track.py is malformed; in one line.
    """
    if name == FULL:
        return Track(FULL, 'full scale')
    if name not in (names := track_names(files)):
        raise ValueError(f'no track {name!r}{meant(name, names)}; one of {", ".join(names)}')
    if name in TAKEN:
        raise ValueError(f'{FOLDER / name}: a track cannot be called so; work_dirs/{name} is taken')
    path = files / FOLDER / name / 'track.py'
    told = _literals(path) if path.is_file() else {}
    known = {entry.name for entry in fields(Track)} - {'name'}
    if unknown := sorted(told.keys() - known):
        raise ValueError(f'{path}: nothing reads {unknown[0]!r}; known: {", ".join(sorted(known))}')
    return Track(name, **{'title': f'the track {name}', **told})


def as_told(name: str) -> dict[str, bool | str]:
    """A track as records and tables tell it: only those beside the first two are named."""
    return {'sample': name == SAMPLE} | ({} if name in (FULL, SAMPLE) else {'track': name})


def _literals(path: Path) -> dict[str, object]:
    try:
        assigned = [
            node for node in ast.parse(path.read_text()).body if isinstance(node, ast.Assign)
        ]
        return {node.targets[0].id: ast.literal_eval(node.value) for node in assigned}
    except (SyntaxError, ValueError, AttributeError) as error:
        raise ValueError(
            f'{path}: expected NAME = literal, {" ".join(str(error).split())}'
        ) from None
