"""A student's card: ``student.json`` beside its weights, which says how they came about."""

import os
from collections.abc import Mapping
from typing import Any

import msgspec

from backbones.files import one_line, read_json
from comad.runs.record import Student
from comad.runs.track import FULL, SAMPLE


class StudentCard(Student, frozen=True, kw_only=True, forbid_unknown_fields=False):
    """What the student's records take over, and what else its pretraining is to be known by.

    ``architecture`` and ``sha256`` are filled in where the weights are written. ``method`` may be
    a class that has several presets: what a record is named after is the run's to say. ``start`` is
    the file, and its sha256, that the weights were read from before the first step, if any was.
    """

    name: str
    method: str
    arch: str

    config: str | None = None
    seed: int | None = None
    track: str = FULL
    versions: dict[str, str] = {}
    start: dict[str, str] | msgspec.UnsetType = msgspec.UNSET

    def as_dict(self) -> dict[str, Any]:
        """The card as plain Python, in the order of its file."""
        return msgspec.to_builtins(self)


def unit_of(architecture: Mapping[str, Any] | None) -> str:
    """What counts as one image: a whole clip of networks that see several frames."""
    return 'clip' if 'frames' in (architecture or {}) else 'image'


def make_card(facts: Mapping[str, Any]) -> StudentCard:
    """Return the card of these facts, checked; entries that no card has are left out.

    Cards of earlier versions say in one word what the pretraining was told that its data are, not
    what was read: their ``data`` are unknown. They name no track, only whether they are of the
    embedded sample.

    Raises:
        ValueError: One line that ends in the place of an entry of another type, ``$.seed``.
    """
    known = dict(facts)
    if isinstance(known.get('data'), str):
        known['data'] = None
    if known.get('sample') is True:
        known.setdefault('track', SAMPLE)
    try:
        return msgspec.convert(known, StudentCard)
    except msgspec.ValidationError as error:
        raise ValueError(str(error).replace('`', '')) from None


def read_student_card(path: str | os.PathLike[str]) -> StudentCard:
    """Read a card.

    Raises:
        ValueError: It is missing or no card; the message is one line that names the file.
    """
    try:
        return make_card(read_json(path))
    except (OSError, ValueError) as error:
        reason = one_line(error).removeprefix(f'{path}: ')
        raise ValueError(f'{path}: no card of a student ({reason})') from None
