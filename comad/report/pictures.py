"""Pictures of predictions, made small enough for the page."""

import base64
import io
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from PIL import Image

from comad.report.tables import NO_FOLDER, words
from comad.runs.place import folder_below
from comad.runs.record import Record
from comad.tasks.task import FIGURE, TASKS

# (longer side in px, quality): from what is good to look at down to what still shows something.
STEPS = ((1200, 78), (1000, 72), (820, 65), (640, 55), (480, 45))
MOST_BYTES = 60_000
MAX_PIXELS = 40_000_000


class Source(NamedTuple):
    """A picture of a run, not read yet."""

    caption: str
    path: Path


class Picture(NamedTuple):
    """A picture as a ``data:`` URI, with its size in pixels and what it shows."""

    caption: str
    uri: str
    width: int
    height: int


def picture_sources(records: Iterable[Record], root: Path) -> tuple[list[Source], list[str]]:
    """Return the first seed's picture of every dense task and student, and what is missing."""
    dense = (record for record in records if TASKS[record.task].dense)
    first: dict[tuple[str, str], Record] = {}
    for record in dense:
        first.setdefault((record.task, record.student.name), record)
    sources, notes = [], []
    for (task, student), record in first.items():
        folder, caption = folder_below(root, record.config.work_dir), f'{words(task)}, {student}'
        if folder is not None and (folder / FIGURE).is_file():
            sources.append(Source(caption, folder / FIGURE))
        else:
            why = NO_FOLDER if folder is None else f'no {FIGURE} in its folder'
            notes.append(f'{caption}: no predictions: {why}')
    return sources, notes


def make_gallery(sources: Sequence[Source], budget: int) -> tuple[list[Picture], list[str]]:
    """Return the pictures, and one line for every one that was left out.

    Args:
        sources: What to show; each gets an equal share of the budget.
        budget: Bytes of all pictures together, as they stand in the page.
    """
    pictures, left_out = [], []
    for source in sources:
        try:
            pictures.append(_encode(source, min(MOST_BYTES, budget // len(sources))))
        except ValueError as error:
            left_out.append(f'{source.caption}: {error}')
        # What Pillow says of a broken file; its words would name a folder of this machine.
        except (OSError, SyntaxError, Image.DecompressionBombError):
            left_out.append(f'{source.caption}: {source.path.name} cannot be read')
    return pictures, left_out


def _encode(source: Source, share: int) -> Picture:
    with Image.open(source.path) as image:
        if image.width * image.height > MAX_PIXELS:
            raise ValueError(f'{image.width} x {image.height} px are too many')
        image = image.convert('RGB')
    for side, quality in STEPS:
        small = image.copy()
        small.thumbnail((side, side), Image.Resampling.LANCZOS)
        stream = io.BytesIO()
        small.save(stream, 'WEBP', quality=quality, method=6)
        uri = 'data:image/webp;base64,' + base64.b64encode(stream.getvalue()).decode()
        if len(uri) <= share:
            return Picture(source.caption, uri, *small.size)
    raise ValueError(f'does not fit into {share:,} bytes')
