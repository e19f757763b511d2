"""A recipe card: every field of the protocol that runs, and how it differs from the published."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from comad.recipes.pretraining import pretraining
from comad.runs.track import FULL
from comad.tasks.fields import network
from comad.tasks.protocol import DIGESTS, Field
from comad.tasks.published import agree, read_protocols
from comad.tasks.task import get_task

SAME, DIFFERENT, UNSTATED = 'same', 'different', 'not stated'
# The network under evaluation is nobody's deviation: it is what is compared.
EVALUATED = {'network': 'the student that is evaluated'}


@dataclass(frozen=True)
class Row:
    """One field: what runs, what is published (None: not stated), and why they differ."""

    field: str
    effective: str
    published: str | None
    status: str
    reason: str = ''


@dataclass(frozen=True)
class Card:
    """The card of one config.

    Attributes:
        name, version: Of the protocol, as in run records.
        published: Name of the published protocol that it claims; '' for one of our own.
        sources: Where that is stated.
        rows: All fields.
        problems: Where claim and config disagree; empty in a released config.
    """

    name: str
    version: int
    published: str
    sources: tuple[str, ...]
    rows: tuple[Row, ...]
    problems: tuple[str, ...]

    def as_json(self) -> dict[str, Any]:
        """Plain Python for ``--json``."""
        return asdict(self)


def recipe_card(config: Mapping[str, Any], kind: str, processes: int, track: str = FULL) -> Card:
    """Read a resolved config and compare it with the published protocol that it claims.

    A config claims a protocol by ``protocol.published`` and gives a reason for every field that
    differs in ``protocol.deviations``. Problems are a difference without a reason, a reason
    without a difference, and a stated field that the card does not know. On other tracks
    than the full one nothing is claimed.

    Raises:
        ValueError: an unknown protocol is claimed.
    """
    protocol = config.get('protocol') or {}
    effective = effective_fields(config, kind, processes)
    claimed = (protocol.get('published') or '') if track == FULL else ''
    stated = {}
    if claimed:
        known = read_protocols()
        if claimed not in known:
            raise ValueError(f'protocol.published={claimed!r}: expected one of {", ".join(known)}')
        stated = known[claimed]
    reasons = dict(protocol.get('deviations') or {}) if claimed else {}
    given = EVALUATED | reasons
    rows, problems = [], []
    for field, value in effective.items():
        if field not in stated:
            if field in reasons:
                problems.append(f'{field}: a reason to differ, but the source states no value')
            rows.append(Row(field, _text(value), None, UNSTATED))
            continue
        published = stated[field].value
        if agree(value, published):
            if field in reasons:
                problems.append(f'{field}: a reason to differ, but it is {value} as published')
            rows.append(Row(field, _text(value), published, SAME))
        else:
            if field not in given:
                problems.append(f'{field}: {value} instead of {published}, without a reason')
            rows.append(Row(field, _text(value), published, DIFFERENT, given.get(field, '')))
    problems += [f'{f}: stated, but the card does not show it' for f in stated.keys() - effective]
    problems += [f'{f}: a reason to differ, but no such field' for f in reasons.keys() - effective]
    sources = tuple(dict.fromkeys(entry.source for entry in stated.values()))
    return Card(
        str(protocol.get('name') or kind),
        int(protocol.get('version') or 1),
        claimed,
        sources,
        tuple(rows),
        tuple(sorted(problems)),
    )


def effective_fields(config: Mapping[str, Any], kind: str, processes: int) -> dict[str, Field]:
    """The fields of a card: those of a record but for its digests, and the network beside them."""
    if kind == 'pretrain':
        return pretraining(config, processes)
    fields = get_task(kind).read_protocol(config, processes)
    told = {name: value for name, value in fields.items() if name not in DIGESTS}
    return {'network': network(config), **told}


def _text(value: object) -> str:
    return f'{value:.6g}' if isinstance(value, float) else str(value)
