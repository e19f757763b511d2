"""Scenes of handwritten digits: scikit-learn's scans drawn bright on a dark, textured ground."""

import functools
from dataclasses import dataclass

import cv2
import numpy as np

SIZE = 64
SPLITS = ('train', 'val')
CLASSES = tuple('0123456789')
VAL_SHARE = 0.25

# Edge length in pixels of the square that holds one scan. Sizes and colours vary moderately: with
# 24-44 px and twice the variation of colours, a linear probe on a random ViT reached 0.14 (chance
# 0.10), here 0.18-0.19.
SINGLE_SIZE = (32, 44)
SEVERAL_SIZE = (18, 32)
MAX_DIGITS = 3
MAX_ROTATION = 8  # degrees
# Colours, 0-255.
INK, GROUND = (200, 228), (44, 56)
TINT = 3  # largest change of a channel
CLOUDS, GRAIN = 4, 2  # standard deviations of the ground's texture
CONTRAST = (0.94, 1.06)
# Ink of a scan, 0-1, where an enlarged stroke ends.
OUTLINE = 0.35


@dataclass(frozen=True)
class Scene:
    """One rendered image.

    Attributes:
        image: (64, 64, 3) uint8, RGB.
        digits: classes 0-9 of the n digits, in drawing order.
        masks: (n, 64, 64) bool, disjoint.
        border: (64, 64) bool, the rim of one pixel around the digits, where edges are blurred;
            disjoint from the masks.
    """

    image: np.ndarray
    digits: tuple[int, ...]
    masks: np.ndarray
    border: np.ndarray


@functools.cache
def load_scans() -> tuple[np.ndarray, np.ndarray]:
    """scikit-learn's scans (1797, 8, 8) float32, ink from 0 to 1, and their classes (1797,)."""
    # A second to import, and not needed to check a finished sample.
    from sklearn.datasets import load_digits

    digits = load_digits()
    return digits.images.astype(np.float32) / 16, digits.target


def split_digits(split: str, seed: int = 0) -> list[np.ndarray]:
    """Indices of the scans of a split, per class; every class gives a quarter to val.

    Raises:
        ValueError: unknown split.
    """
    if split not in SPLITS:
        raise ValueError(f'split={split!r}: expected one of {", ".join(SPLITS)}')
    target = load_scans()[1]
    indices = []
    for digit in range(len(CLASSES)):
        mine = np.random.default_rng([seed, digit]).permutation(np.flatnonzero(target == digit))
        held_out = round(VAL_SHARE * len(mine))
        indices.append(np.sort(mine[:held_out] if split == 'val' else mine[held_out:]))
    return indices


class SceneRenderer:
    """Draws scenes of one split.

    A scene depends on the seed, the split and its index alone, so any part of a data set can be
    drawn in any order and by any number of processes.

    Args:
        split: 'train' or 'val'; no digit of one is ever drawn in the other.
        seed: of the split of the digits and of every scene.
    """

    def __init__(self, split: str, seed: int = 0) -> None:
        self.indices = split_digits(split, seed)
        self.ink = load_scans()[0]
        self.stream = (seed, SPLITS.index(split))

    def single(self, index: int) -> Scene:
        """Scene ``index`` with one digit; the class is ``index % 10``."""
        rng = np.random.default_rng([*self.stream, 1, index])
        size = rng.uniform(*SINGLE_SIZE)
        center = rng.uniform(size / 2, SIZE - size / 2, size=2)
        return self._render(rng, [index % len(CLASSES)], [size], [center])

    def several(self, index: int) -> Scene:
        """Scene ``index`` with one to three digits of any class; their squares do not overlap."""
        rng = np.random.default_rng([*self.stream, MAX_DIGITS, index])
        digits = rng.integers(len(CLASSES), size=rng.integers(1, MAX_DIGITS + 1)).tolist()
        sizes, centers = _place(rng, len(digits))
        return self._render(rng, digits, sizes, centers)

    def _render(
        self, rng: np.random.Generator, digits: list[int], sizes: list, centers: list
    ) -> Scene:
        image = _background(rng)
        masks: list[np.ndarray] = []
        for digit, size, center in zip(digits, sizes, centers, strict=True):
            scan = self.ink[rng.choice(self.indices[digit])]
            ink = _draw(scan, size, center, rng.uniform(-MAX_ROTATION, MAX_ROTATION))
            # Edges are about two pixels wide at every size.
            coverage = np.clip(0.5 + (ink - OUTLINE) * size / 8, 0, 1)
            color = rng.uniform(*INK) + rng.uniform(-TINT, TINT, size=3)
            shade = color * (0.85 + 0.15 * np.clip(ink, 0, 1)[..., None])
            image += coverage[..., None] * (shade - image)
            mask = coverage >= 0.5
            # A rotated scan may reach over the edge of its square: the upper one hides the lower.
            masks = [below & ~mask for below in masks] + [mask]
        image = (image - 100) * rng.uniform(*CONTRAST) + 100
        stack = np.stack(masks)
        ink_pixels = stack.any(0)
        rim = cv2.dilate(ink_pixels.astype(np.uint8), np.ones((3, 3), np.uint8)) > 0
        image = np.clip(np.rint(image), 0, 255).astype(np.uint8)
        return Scene(image, tuple(digits), stack, rim & ~ink_pixels)


def _background(rng: np.random.Generator) -> np.ndarray:
    """A dark ground with soft clouds and fine grain, (64, 64, 3) float32."""
    coarse = rng.normal(0, CLOUDS, (8, 8)).astype(np.float32)
    clouds = cv2.resize(coarse, (SIZE, SIZE), interpolation=cv2.INTER_CUBIC)
    grain = rng.normal(0, GRAIN, (SIZE, SIZE)).astype(np.float32)
    tint = rng.uniform(*GROUND) + rng.uniform(-TINT, TINT, size=3)
    return (clouds + grain)[..., None] + tint.astype(np.float32)


def _place(rng: np.random.Generator, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Sizes (n,) and centers (n, 2) of squares that neither overlap nor leave the image."""
    sizes = rng.uniform(*SEVERAL_SIZE, size=count)
    while True:
        for _ in range(30):
            centers = rng.uniform(sizes[:, None] / 2, SIZE - sizes[:, None] / 2, size=(count, 2))
            distance = np.abs(centers[:, None] - centers[None]).max(-1)
            free = distance >= (sizes[:, None] + sizes[None]) / 2
            if (free | np.eye(count, dtype=bool)).all():
                return sizes, centers
        # Three large ones may leave no room for each other.
        sizes = np.maximum(sizes * 0.9, SEVERAL_SIZE[0])


def _draw(scan: np.ndarray, size: float, center: np.ndarray, degrees: float) -> np.ndarray:
    """The scan (8, 8) enlarged to a square of ``size`` around ``center`` (x, y), (64, 64)."""
    padded = np.pad(scan, 2)
    scale = size / scan.shape[0]
    matrix = cv2.getRotationMatrix2D(((padded.shape[1] - 1) / 2,) * 2, degrees, scale)
    matrix[:, 2] += center - 0.5 - (padded.shape[0] - 1) / 2
    return cv2.warpAffine(padded, matrix, (SIZE, SIZE), flags=cv2.INTER_CUBIC)
