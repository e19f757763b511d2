"""Pictures of predictions, made small enough for the page."""

import base64
import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

# (longer side in px, quality): from what is good to look at down to what still shows something.
STEPS = ((1200, 78), (1000, 72), (820, 65), (640, 55), (480, 45))
MOST_BYTES = 60_000
MAX_PIXELS = 40_000_000


@dataclass(frozen=True)
class Picture:
    """A picture as a ``data:`` URI, with its size in pixels and what it shows."""

    caption: str
    uri: str
    width: int
    height: int


@dataclass(frozen=True)
class Source:
    """A picture of a run, not read yet."""

    caption: str
    path: Path


def make_gallery(sources: Sequence[Source], budget: int) -> tuple[list[Picture], list[str]]:
    """Return the pictures, and one line for every one that was left out.

    Args:
        sources: What to show; each gets an equal share of the budget.
        budget: Bytes of all pictures together, as they stand in the page.
    """
    if not sources:
        return [], []
    share = min(MOST_BYTES, budget // len(sources))
    pictures, left_out = [], []
    for source in sources:
        try:
            pictures.append(_encode(source, share))
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
    for small, data in _attempts(image):
        uri = 'data:image/webp;base64,' + base64.b64encode(data).decode()
        if len(uri) <= share:
            return Picture(source.caption, uri, *small.size)
    raise ValueError(f'does not fit into {share:,} bytes')


def _attempts(image: Image.Image) -> Iterator[tuple[Image.Image, bytes]]:
    for side, quality in STEPS:
        small = image.copy()
        small.thumbnail((side, side), Image.Resampling.LANCZOS)
        stream = io.BytesIO()
        small.save(stream, 'WEBP', quality=quality, method=6)
        yield small, stream.getvalue()
