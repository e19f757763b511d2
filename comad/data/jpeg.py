"""What the markers of a JPEG file tell without decoding it (ITU-T T.81, annex B)."""

import struct
from typing import NamedTuple

START, SCAN, END = b'\xff\xd8', b'\xff\xda', b'\xff\xd9'
# Baseline, extended and progressive, Huffman coded: what libjpeg-turbo decodes in 8 bits.
FRAMES = (0xC0, 0xC1, 0xC2)
# Without a length: TEM, RSTn, SOI. They do not occur before the frame of a sound file.
BARE = (0x01, *range(0xD0, 0xDA))


class Frame(NamedTuple):
    """The frame header: bits per sample, edges in pixels as stored, colour components."""

    bits: int
    height: int
    width: int
    components: int


def has_end(data: bytes) -> bool:
    """Whether a JPEG file ends with its end marker, apart from padding.

    Entropy-coded data escape the byte that markers begin with, and an embedded thumbnail, which
    has an end marker too, lies before the image's scan.
    """
    end = data.rfind(END)
    return end >= 0 and data.find(SCAN, end) < 0


def read_frame(data: bytes) -> Frame | None:
    """The frame header of a JPEG file; None if it is no such file or the header is malformed."""
    if not data.startswith(START):
        return None
    place = len(START)
    while place + 10 <= len(data) and data[place] == 0xFF:
        marker = data[place + 1]
        if marker in FRAMES:
            return Frame(*struct.unpack_from('>BHHB', data, place + 4))
        if marker == 0xFF:
            place += 1
            continue
        if marker in BARE or marker == SCAN[1]:
            return None
        place += 2 + (data[place + 2] << 8 | data[place + 3])
    return None
