"""`write_report`: all tables, figures and pictures as one HTML file without outside resources."""

import base64
import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

from backbones.files import write_text
from comad.leaderboard.tables import MIN_SEEDS, Leaderboards
from comad.report.panels import Runs, Section, cost_section, cut, gate_section, learning_section
from comad.report.pictures import make_gallery, picture_sources
from comad.report.tables import Board, ClassTable, class_tables, commits, make_boards
from comad.runs.place import get_track, results_folder
from comad.runs.track import FULL

MAX_BYTES = 1_000_000
FIGURE_BYTES = 380_000
PICTURE_BYTES = 330_000
MAX_NOTES = 200


@dataclass(frozen=True)
class Material:
    """Everything the page shows but its pictures, which are made to fit last."""

    boards: list[Board]
    cost: Section
    learning: Section
    gate: Section
    classes: list[ClassTable]
    class_notes: list[str]
    summary: list[tuple[str, str]]


def write_report(
    boards: Leaderboards,
    out: str | os.PathLike[str],
    track: str = FULL,
    root: str | os.PathLike[str] = '.',
) -> Path:
    """Write the report and return its path; equal inputs give equal bytes.

    The file stays below 1 MB: pictures are left out first, then figures, each by name. Tables are
    never left out; those of thousands of records alone may be larger.

    Args:
        boards: What ``make_leaderboards`` or ``build_leaderboards`` returned.
        out: The HTML file.
        track: The track that these are the tables of.
        root: Folder that holds the runs' work_dirs; what is not there is said to be missing.
    """
    root = Path(root)
    material = _collect(boards, root)
    sources, missing = picture_sources(boards.records, root)
    for share in (1.0, 0.5, 0.0):
        cut((material.cost, material.learning, material.gate), int(FIGURE_BYTES * share))
        pictures, left_out = make_gallery(sources, int(PICTURE_BYTES * share))
        page = _render(
            track=get_track(track),
            records=results_folder(track) / 'records',
            pictures=pictures,
            picture_notes=[*missing, *left_out],
            refused=boards.refused,
            notes_of_rows=boards.notes,
            material=material,
        )
        if len(page.encode()) < MAX_BYTES:
            break
    write_text(out, page)
    return Path(out)


def _collect(boards: Leaderboards, root: Path) -> Material:
    shown = make_boards(boards)
    runs = Runs(boards.records, root)
    classes, class_notes = class_tables(boards.records, root)
    return Material(
        shown,
        cost_section(shown, runs.series),
        learning_section(runs),
        gate_section(runs),
        classes,
        class_notes,
        _summary(boards, shown),
    )


def _summary(boards: Leaderboards, shown: Sequence[Board]) -> list[tuple[str, str]]:
    lines = [line for board in shown for line in board.lines]
    measured = [line for line in lines if line.measured]
    ranked = sum(bool(line.rank) for line in measured)
    made_from = commits(boards.records)
    more = f' and {len(made_from) - 3} more' if len(made_from) > 3 else ''
    return [
        ('measured rows', f'{len(measured)}, {ranked} ranked'),
        ('published rows', str(len(lines) - len(measured))),
        ('run records', f'{len(boards.records)}, {len(boards.refused)} refused'),
        ('commit of the records', (', '.join(made_from[:3]) + more) or 'no record yet'),
    ]


def _render(**context: Any) -> str:
    from jinja2 import Environment, StrictUndefined
    from markupsafe import Markup

    here = files('comad.report')
    texts = {
        name: here.joinpath(name).read_text(encoding='utf-8')
        for name in ('template.html.j2', 'style.css', 'sort.js')
    }
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    # The browser compares the digest with the script as it stands in the page.
    script = _without_indents(texts['sort.js']).strip()
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    page = environment.from_string(texts['template.html.j2']).render(
        style=Markup(texts['style.css'].strip()),
        script=Markup(script),
        script_hash=f'sha256-{digest}',
        min_seeds=MIN_SEEDS,
        max_notes=MAX_NOTES,
        safe=Markup,
        **context,
    )
    return _without_indents(page)


def _without_indents(text: str) -> str:
    return '\n'.join(line.strip() for line in text.splitlines() if line.strip()) + '\n'
