"""Image files: which suffixes are read, and decoding with an error that names the file."""

import io
import struct
import zlib
from pathlib import Path

from PIL import Image

IMAGE_SUFFIXES = ('.jpg', '.jpeg', '.png')
# What Pillow raises for damaged or hostile files, by format.
DECODE_ERRORS = (
    OSError,
    SyntaxError,
    ValueError,
    EOFError,
    struct.error,
    zlib.error,
    Image.DecompressionBombError,
)


def is_image_name(name: str) -> bool:
    """Whether the suffix is one that is read, in any case; hidden files are not."""
    return not name.startswith('.') and name.lower().endswith(IMAGE_SUFFIXES)


def decode_image(data: bytes, place: str) -> Image.Image:
    """Decode the bytes of an image file as RGB.

    Args:
        data: the whole file.
        place: name for the error message.

    Raises:
        OSError: it is no image, or damaged.
    """
    try:
        with Image.open(io.BytesIO(data)) as image:
            return image.convert('RGB')
    except DECODE_ERRORS as error:
        raise OSError(f'{place}: cannot be read as an image ({first_line(error)})') from error


def read_image(path: str | Path) -> Image.Image:
    """Decode an image file as RGB.

    Raises:
        OSError: it cannot be read, is no image, or damaged; the message names the file.
    """
    return decode_image(Path(path).read_bytes(), str(path))


def first_line(error: BaseException) -> str:
    """First line of an error's message, or its type where there is none."""
    return str(error).splitlines()[0] if str(error) else type(error).__name__
