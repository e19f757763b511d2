"""Images made smaller before they are packed: what `tools/data.py shard` writes by default.

The short side becomes 256 px, the size at which evaluation cuts its 224 px centre, and the file a
JPEG of quality 90: our choice. Only ever smaller: an image whose short side is not above that keeps
its bytes. Pixels are as stored, so an EXIF orientation is ignored as the readers ignore it, and
left out of the new file with all other metadata. CMYK and grey become RGB as the readers do it.
"""

import io
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import PIL
from PIL import Image, features

from comad.data.images import DECODE_ERRORS, decode_pillow, unreadable

SHORT_SIDE = 256
QUALITY = 90
# 4:2:0, which most of ImageNet's files have: it decodes fastest.
SUBSAMPLING = '4:2:0'


@dataclass(frozen=True)
class Reencoding:
    """How images are made smaller.

    Args:
        short_side: in pixels, at most.
        quality: of the JPEG, 1 to 95.

    Raises:
        ValueError: a value out of range.
    """

    short_side: int = SHORT_SIDE
    quality: int = QUALITY

    def __post_init__(self) -> None:
        if self.short_side < 32:
            raise ValueError(f'short_side={self.short_side}: expected 32 px or more')
        if not 1 <= self.quality <= 95:
            raise ValueError(f'quality={self.quality}: expected 1 to 95')

    def settings(self) -> dict[str, Any]:
        """Everything that decides the pixels, for the manifest."""
        return {
            **asdict(self),
            'images': 're-encoded',
            'format': f'JPEG, {SUBSAMPLING}, baseline, optimised Huffman tables',
            'resampling': 'Pillow bicubic with antialias',
        }

    def libraries(self) -> dict[str, str]:
        """Versions of what decodes, resizes and encodes; others may give other bytes."""
        turbo = features.version('libjpeg_turbo')
        return {'pillow': PIL.__version__, 'libjpeg-turbo': turbo or 'none'}

    def __call__(self, data: bytes, place: str | Path) -> bytes:
        """The file to pack, the same bytes each time: a smaller one, or ``data`` as they are.

        Args:
            data: of the image file.
            place: name for the error message.

        Raises:
            OSError: it cannot be read as an image.
        """
        try:
            image = decode_pillow(data)
        except DECODE_ERRORS as error:
            raise unreadable(place, error) from error
        short = min(image.size)
        if short <= self.short_side:
            return data
        # The long side is cut to whole pixels as torchvision's Resize does it.
        edges = tuple(self.short_side * edge // short for edge in image.size)
        file = io.BytesIO()
        image.resize(edges, Image.Resampling.BICUBIC).save(
            file, 'JPEG', quality=self.quality, subsampling=SUBSAMPLING, optimize=True
        )
        return file.getvalue()


ORIGINAL = {'images': 'original bytes'}
