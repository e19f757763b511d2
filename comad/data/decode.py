"""Image files: which suffixes are read, what JPEG markers tell, and decoding with clear errors."""

import io
import struct
import zlib
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image, UnidentifiedImageError

IMAGE_SUFFIXES = ('.jpg', '.jpeg', '.png', '.webp', '.tif', '.tiff', '.bmp')
# What a file with such a suffix may really be. Pillow also knows formats that it hands to other
# programs: PostScript to Ghostscript.
FORMATS = ('JPEG', 'PNG', 'WEBP', 'TIFF', 'BMP', 'GIF')
# What an image of class indices may be; of 16 bits as long as the classes need 8.
LABEL_MODES = ('1', 'L', 'P', 'I', 'I;16', 'I;16B')
IGNORED = 255  # of those: neither learnt nor scored
ORIENTATION = 0x0112  # EXIF's tag; 1 is upright
PNG_START = b'\x89PNG'
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
Decoder = Callable[[bytes], Any]
JPEG_START, JPEG_SCAN, JPEG_END = b'\xff\xd8', b'\xff\xda', b'\xff\xd9'
# Markers of JPEG (ITU-T T.81, annex B): baseline, extended and progressive, Huffman coded, which
# libjpeg-turbo decodes in 8 bits.
FRAMES = (0xC0, 0xC1, 0xC2)
# Without a length: TEM, RSTn, SOI. They do not occur before the frame of a sound file.
BARE = (0x01, *range(0xD0, 0xDA))


class Frame(NamedTuple):
    """The frame header: bits per sample, edges in pixels as stored, colour components."""

    bits: int
    height: int
    width: int
    components: int


def is_image_name(name: str) -> bool:
    """Whether the suffix is one that is read, in any case; hidden files are not."""
    return not name.startswith('.') and name.lower().endswith(IMAGE_SUFFIXES)


def open_image(data: bytes) -> Image.Image:
    """Open an image file, pixels not decoded yet.

    Raises:
        DECODE_ERRORS: it is no image, or damaged.
    """
    if not data:
        raise OSError('the file is empty')
    try:
        return Image.open(io.BytesIO(data), formats=FORMATS)
    except UnidentifiedImageError:
        # Pillow would name the buffer, by an address that is another one each time.
        raise OSError(f'it is no image, it begins with {data[:8]!r}') from None


def decode_pillow(data: bytes) -> Image.Image:
    """Decode an image file as RGB, pixels as they are stored: an EXIF orientation is ignored.

    Grey becomes three equal channels; of 16 bits a channel the higher 8 are taken, as OpenCV does.

    Raises:
        DECODE_ERRORS: it is no image, damaged, or of 32 bits a channel.
    """
    with open_image(data) as image:
        if image.mode == 'F' or (image.mode == 'I' and image.format != 'PNG'):
            raise OSError('32 bits a channel have no white of their own; convert it to 8 or 16')
        if image.mode.startswith('I'):  # 16-bit grey, which Pillow would clip at 255
            higher = np.asarray(image).astype(np.int64) >> 8
            return Image.fromarray(higher.astype(np.uint8)).convert('RGB')
        return image.convert('RGB')


def orientation_of(image: Image.Image) -> int:
    """The EXIF orientation of an open image, 1 to 8; 1 where none is stated or EXIF is damaged."""
    try:
        stated = image.getexif().get(ORIENTATION, 1)
    except (*DECODE_ERRORS, KeyError, TypeError, AttributeError):
        return 1
    return stated if stated in range(1, 9) else 1


def is_16_bit(data: bytes) -> bool:
    """Whether it is a PNG file of 16 bits a channel."""
    return data.startswith(PNG_START) and data[24:25] == b'\x10'


def decode_opencv(data: bytes) -> np.ndarray:
    """Decode an image file as RGB, (H, W, 3) uint8, through OpenCV's libjpeg-turbo.

    Pixels are those of `decode_pillow`, EXIF orientation ignored too. OpenCV gets what it is sure
    to decode alike: grey and three-component JPEG with an end, since it fills what is missing of
    a truncated file with grey. All else, CMYK and PNG among it, Pillow decodes, or refuses.

    Raises:
        DECODE_ERRORS: it is no image, or damaged.
    """
    if (frame := read_frame(data)) and _is_plain(frame) and has_end(data):
        cv2 = load_opencv()
        flags = cv2.IMREAD_COLOR_RGB | cv2.IMREAD_IGNORE_ORIENTATION
        pixels = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
        if pixels is not None:
            return pixels
    return np.array(decode_pillow(data))


DECODERS: dict[str, Decoder] = {'pillow': decode_pillow, 'opencv': decode_opencv}


def get_decoder(name: str) -> Decoder:
    """The decoder that a config names.

    Raises:
        ValueError: there is none of that name, or OpenCV is too old for it.
    """
    if name not in DECODERS:
        raise ValueError(f'decode={name!r}: expected {" or ".join(DECODERS)}')
    if name == 'opencv':
        load_opencv()
    return DECODERS[name]


@cache
def load_opencv() -> Any:
    """OpenCV, without threads of its own: a data worker is to keep to its core.

    Raises:
        ValueError: a version that cannot decode to RGB.
    """
    import cv2

    if not hasattr(cv2, 'IMREAD_COLOR_RGB'):
        raise ValueError(f"decode='opencv': OpenCV is {cv2.__version__}, expected 4.11 or later")
    cv2.setNumThreads(0)
    return cv2


def _is_plain(frame: Frame) -> bool:
    # Pillow warns of huge images, and refuses them at twice the limit.
    small = frame.width * frame.height <= (Image.MAX_IMAGE_PIXELS or 0)
    return small and frame.bits == 8 and frame.components in (1, 3)


def unreadable(place: str | Path, error: BaseException) -> OSError:
    """The error for an image that a decoder refused, in one line that names the file."""
    return OSError(f'{place}: cannot be read as an image ({first_line(error)})')


def read_image(path: str | Path) -> Image.Image:
    """Decode an image file as RGB.

    Raises:
        OSError: it cannot be read, is no image, or damaged; the message names the file.
    """
    data = Path(path).read_bytes()
    try:
        return decode_pillow(data)
    except DECODE_ERRORS as error:
        raise unreadable(path, error) from error


def first_line(error: BaseException) -> str:
    """First line of an error's message, or its type where there is none."""
    return str(error).splitlines()[0] if str(error) else type(error).__name__


def has_end(data: bytes) -> bool:
    """Whether a JPEG file ends with its end marker, apart from padding.

    Entropy-coded data escape the byte that markers begin with, and an embedded thumbnail, which
    has an end marker too, lies before the image's scan.
    """
    end = data.rfind(JPEG_END)
    return end >= 0 and data.find(JPEG_SCAN, end) < 0


def read_frame(data: bytes) -> Frame | None:
    """The frame header of a JPEG file; None if it is no such file or the header is malformed."""
    if not data.startswith(JPEG_START):
        return None
    place = len(JPEG_START)
    while place + 10 <= len(data) and data[place] == 0xFF:
        marker = data[place + 1]
        if marker in FRAMES:
            return Frame(*struct.unpack_from('>BHHB', data, place + 4))
        if marker == 0xFF:
            place += 1
            continue
        if marker in BARE or marker == JPEG_SCAN[1]:
            return None
        place += 2 + (data[place + 2] << 8 | data[place + 3])
    return None
