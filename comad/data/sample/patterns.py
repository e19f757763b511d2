"""Ten patterns of two tones, the classes of the embedded sample.

A pattern is a function of the plane. Places are in periods, turned and shifted at random, so that a
class is how tones are arranged: neither which of them is bright, nor where a line runs, nor how
fine it is. The result is at least 0 where the second tone lies; its size is a distance to the edge
in periods, which makes soft edges of equal width in all patterns.
"""

from collections.abc import Callable

import cv2
import numpy as np
from numpy.random import Generator

Plane = np.ndarray  # (H, W) float32
Pattern = Callable[[Generator, Plane, Plane], Plane]

EDGE = 1.2  # width of the edge between two tones, pixels
SPOTS = 48  # random values per side of the torus that spots are cut from


def _cell(x: Plane) -> Plane:
    """Signed distance to the middle of the unit interval that x lies in, -0.5 to 0.5."""
    return x - np.floor(x) - 0.5


def stripes(rng: Generator, u: Plane, v: Plane) -> Plane:
    return np.abs(_cell(u)) - rng.uniform(0.2, 0.3)


def checks(rng: Generator, u: Plane, v: Plane) -> Plane:
    return np.sin(np.pi * u) * np.sin(np.pi * v) / np.pi


def dots(rng: Generator, u: Plane, v: Plane) -> Plane:
    return rng.uniform(0.26, 0.36) - np.hypot(_cell(u), _cell(v))


def grid(rng: Generator, u: Plane, v: Plane) -> Plane:
    return np.maximum(np.abs(_cell(u)), np.abs(_cell(v))) - rng.uniform(0.3, 0.38)


def zigzag(rng: Generator, u: Plane, v: Plane) -> Plane:
    bend = np.abs(_cell(v / rng.uniform(1.6, 2.2)))
    return (np.abs(_cell(u + rng.uniform(1.6, 2.2) * bend)) - 0.25) * 0.6


def rings(rng: Generator, u: Plane, v: Plane) -> Plane:
    side = 2.2
    radius = np.hypot(_cell(u / side), _cell(v / side)) * side
    return (np.abs(_cell(radius / 0.75)) - 0.25) * 0.75


def bricks(rng: Generator, u: Plane, v: Plane) -> Plane:
    high, wide = 0.8, 1.6
    row = np.floor(v / high)
    across = (0.5 - np.abs(_cell(u / wide + 0.5 * (row % 2)))) * wide
    along = (0.5 - np.abs(_cell(v / high))) * high
    return np.minimum(across, along) - rng.uniform(0.11, 0.16)


def spots(rng: Generator, u: Plane, v: Plane) -> Plane:
    values = rng.normal(size=(SPOTS, SPOTS)).astype(np.float32)
    fine = 1.7  # random values per period
    x, y = ((place * fine) % (SPOTS - 1) for place in (u, v))
    return cv2.remap(values, x, y, cv2.INTER_CUBIC, borderMode=cv2.BORDER_WRAP) * 0.25


def diamonds(rng: Generator, u: Plane, v: Plane) -> Plane:
    x, y = 2 * _cell(u), 2 * _cell(v / 1.8)
    return (rng.uniform(0.62, 0.78) - np.abs(x) - np.abs(y)) * 0.42


def dashes(rng: Generator, u: Plane, v: Plane) -> Plane:
    high, wide = 0.7, 1.9
    row = np.floor(v / high)
    across = np.abs(_cell(u / wide + 0.618 * row)) * wide
    return np.minimum(0.58 - across, 0.17 - np.abs(_cell(v / high)) * high)


PATTERNS: dict[str, Pattern] = {
    one.__name__: one
    for one in (stripes, checks, dots, grid, zigzag, rings, bricks, spots, diamonds, dashes)
}


def draw(name: str, place: Generator, shape: Generator, size: int, period: float) -> Plane:
    """Share of the second tone, 0 to 1, in each pixel of a square: (size, size) float32.

    Args:
        name: a key of ``PATTERNS``.
        place: draws turn and shift.
        shape: draws the pattern's own proportions.
        size: edge of the square, pixels.
        period: pixels.
    """
    turn = place.uniform(0, 2 * np.pi)
    y, x = np.mgrid[:size, :size].astype(np.float32) / np.float32(period)
    u = np.float32(np.cos(turn)) * x + np.float32(np.sin(turn)) * y
    v = np.float32(np.cos(turn)) * y - np.float32(np.sin(turn)) * x
    shift_u, shift_v = place.uniform(0, 20, size=2).astype(np.float32)
    inside = PATTERNS[name](shape, u + shift_u, v + shift_v)
    return np.clip(0.5 + inside * period / EDGE, 0, 1).astype(np.float32)
