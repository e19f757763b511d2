"""Scenes of patterned blobs: what the images, label maps and boxes of the embedded sample show."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import cv2
import numpy as np

from comad.data.sample.patterns import PATTERNS, draw

SIZE = 64
SPLITS = ('train', 'val')
CLASSES = tuple(PATTERNS)

# Diameters and periods in pixels.
SINGLE_SIZE = (28, 50)
SEVERAL_SIZE = (24, 36)
PERIOD = (6.0, 10.0)
MAX_BLOBS = 3
# Tones, 0-255: a dark and a bright one per blob, between them the ground. All are almost grey, as
# colours alone would tell blobs from ground and images apart.
DARK, CONTRAST, GROUND = (45, 85), (95, 135), (108, 142)
TINT = 5  # largest change of a channel
CLOUDS = 6  # standard deviation of the ground's texture


@dataclass(frozen=True)
class Scene:
    """One rendered image.

    Attributes:
        image: (64, 64, 3) uint8, RGB.
        classes: indices into ``CLASSES`` of the n blobs, in drawing order.
        masks: (n, 64, 64) bool, disjoint.
        border: (64, 64) bool, the rim of one pixel around the blobs, where edges are blurred;
            disjoint from the masks.
    """

    image: np.ndarray
    classes: tuple[int, ...]
    masks: np.ndarray
    border: np.ndarray


class SceneRenderer:
    """Draws scenes of one split.

    A scene depends on the seed, the split and its index alone, so any part of a data set can be
    drawn in any order and by any number of processes.

    Args:
        split: 'train' or 'val'.
        seed: of every scene.

    Raises:
        ValueError: unknown split.
    """

    def __init__(self, split: str, seed: int = 0) -> None:
        if split not in SPLITS:
            raise ValueError(f'split={split!r}: expected one of {", ".join(SPLITS)}')
        self.stream = (seed, SPLITS.index(split))

    def single(self, index: int) -> Scene:
        """Scene ``index`` with one to three blobs of one material; the class is ``index % 10``."""
        rng = np.random.default_rng([*self.stream, 1, index])
        count = int(rng.integers(1, MAX_BLOBS + 1))
        sizes, centers = _place(rng, count)
        if count == 1:
            size = rng.uniform(*SINGLE_SIZE)
            sizes, centers = [size], [rng.uniform(size / 2, SIZE - size / 2, size=2)]
        return self._render(rng, [index % len(CLASSES)] * count, sizes, centers, alike=True)

    def several(self, index: int) -> Scene:
        """Scene ``index`` with one to three blobs of any class; their squares do not overlap."""
        rng = np.random.default_rng([*self.stream, MAX_BLOBS, index])
        classes = rng.integers(len(CLASSES), size=rng.integers(1, MAX_BLOBS + 1)).tolist()
        sizes, centers = _place(rng, len(classes))
        return self._render(rng, classes, sizes, centers)

    def _render(
        self,
        rng: np.random.Generator,
        classes: list[int],
        sizes: Sequence[float],
        centers: Sequence[np.ndarray],
        alike: bool = False,
    ) -> Scene:
        """Draw blobs on a ground; those that are alike have period, proportions and tones in common."""
        image = _ground(rng)
        masks = []
        key = int(rng.integers(2**31))
        for n, (kind, size, center) in enumerate(zip(classes, sizes, centers, strict=True)):
            own = np.random.default_rng([key, 0 if alike else n])
            period = own.uniform(*PERIOD)
            first, second = _tones(own)
            share = draw(CLASSES[kind], rng, own, SIZE, period)[..., None]
            coverage = _blob(rng, size, center)
            image += coverage[..., None] * (first + share * (second - first) - image)
            masks.append(coverage >= 0.5)
        stack = np.stack(masks)
        covered = stack.any(0)
        rim = cv2.dilate(covered.astype(np.uint8), np.ones((3, 3), np.uint8)) > 0
        image = np.clip(np.rint(image), 0, 255).astype(np.uint8)
        return Scene(image, tuple(classes), stack, rim & ~covered)


def _ground(rng: np.random.Generator) -> np.ndarray:
    """A grey ground with soft clouds, (64, 64, 3) float32."""
    coarse = rng.normal(0, CLOUDS, (8, 8)).astype(np.float32)
    clouds = cv2.resize(coarse, (SIZE, SIZE), interpolation=cv2.INTER_CUBIC)
    tone = rng.uniform(*GROUND) + rng.uniform(-TINT, TINT, size=3)
    return clouds[..., None] + tone.astype(np.float32)


def _tones(rng: np.random.Generator) -> np.ndarray:
    """The two tones of a blob in random order, (2, 3) float32."""
    dark = rng.uniform(*DARK)
    tones = np.array([[dark], [dark + rng.uniform(*CONTRAST)]])
    return rng.permutation(tones + rng.uniform(-TINT, TINT, size=(2, 3))).astype(np.float32)


def _place(rng: np.random.Generator, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Sizes (n,) and centers (n, 2) of squares that neither overlap nor leave the image."""
    sizes = rng.uniform(*SEVERAL_SIZE, size=count)
    while True:
        low = sizes[:, None] / 2
        room = (SIZE - low) - low
        for _ in range(30):
            centers = low + room * rng.random((count, 2))
            if _apart(sizes.tolist(), centers.tolist()):
                return sizes, centers
        # Three large ones may leave no room for each other.
        sizes = np.maximum(sizes * 0.9, SEVERAL_SIZE[0])


def _apart(sizes: list[float], centers: list[list[float]]) -> bool:
    """Whether no two squares overlap. Plain numbers: of two or three, numpy takes five times as long."""
    squares = zip(sizes, centers, strict=True)
    return all(
        max(abs(x - other_x), abs(y - other_y)) >= (size + other) / 2
        for (size, (x, y)), (other, (other_x, other_y)) in combinations(squares, 2)
    )


def _blob(rng: np.random.Generator, size: float, center: np.ndarray) -> np.ndarray:
    """Coverage 0 to 1 of a turned superellipse inside the square of ``size`` around ``center``."""
    y, x = np.mgrid[:SIZE, :SIZE].astype(np.float32) - center[::-1, None, None].astype(np.float32)
    turn = rng.uniform(0, np.pi)
    u = np.cos(turn) * x + np.sin(turn) * y
    v = np.cos(turn) * y - np.sin(turn) * x
    power = rng.uniform(2, 3.5)
    # The farthest point of an ellipse is its longer half axis; corners of a squarer one reach out.
    reach = 2 ** (0.5 - 1 / power)
    long, short = size / 2 / reach * np.array([1, rng.uniform(0.8, 1)])
    distance = (np.abs(u / long) ** power + np.abs(v / short) ** power) ** (1 / power)
    return np.clip(0.5 + (1 - distance) * short, 0, 1)
