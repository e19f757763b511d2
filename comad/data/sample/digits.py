"""Handwritten digits: scikit-learn's scans drawn bright on a dark, textured ground.

They fill CIFAR-100's layout and the clips.
"""

import functools

import cv2
import numpy as np

from comad.data.sample.scenes import SIZE, SPLITS

DIGITS = tuple('0123456789')
VAL_SHARE = 0.25
# Edge length in pixels of the square that holds one scan.
EDGE = (32, 44)
MAX_ROTATION = 8  # degrees
# Colours, 0-255.
INK, GROUND = (200, 228), (44, 56)
TINT = 3  # largest change of a channel
CLOUDS, GRAIN = 4, 2  # standard deviations of the ground's texture
CONTRAST = (0.94, 1.06)
# Ink of a scan, 0-1, where an enlarged stroke ends.
OUTLINE = 0.35


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
    for digit in range(len(DIGITS)):
        mine = np.random.default_rng([seed, digit]).permutation(np.flatnonzero(target == digit))
        held_out = round(VAL_SHARE * len(mine))
        indices.append(np.sort(mine[:held_out] if split == 'val' else mine[held_out:]))
    return indices


class DigitRenderer:
    """Draws images of one digit each.

    An image depends on the seed, the split and its index alone.

    Args:
        split: 'train' or 'val'; no scan of one is ever drawn in the other.
        seed: of the split of the scans and of every image.
    """

    def __init__(self, split: str, seed: int = 0) -> None:
        self.indices = split_digits(split, seed)
        self.ink = load_scans()[0]
        self.stream = (seed, SPLITS.index(split))

    def image(self, index: int) -> np.ndarray:
        """Image ``index``, (64, 64, 3) uint8 RGB, of the digit ``index % 10``."""
        rng = np.random.default_rng([*self.stream, 1, index])
        edge = rng.uniform(*EDGE)
        center = rng.uniform(edge / 2, SIZE - edge / 2, size=2)
        image = _ground(rng)
        scan = self.ink[rng.choice(self.indices[index % len(DIGITS)])]
        ink = _draw(scan, edge, center, rng.uniform(-MAX_ROTATION, MAX_ROTATION))
        # Edges are about two pixels wide at every size.
        coverage = np.clip(0.5 + (ink - OUTLINE) * edge / 8, 0, 1)
        color = rng.uniform(*INK) + rng.uniform(-TINT, TINT, size=3)
        shade = color * (0.85 + 0.15 * np.clip(ink, 0, 1)[..., None])
        image += coverage[..., None] * (shade - image)
        image = (image - 100) * rng.uniform(*CONTRAST) + 100
        return np.clip(np.rint(image), 0, 255).astype(np.uint8)


def _ground(rng: np.random.Generator) -> np.ndarray:
    """A dark ground with soft clouds and fine grain, (64, 64, 3) float32."""
    coarse = rng.normal(0, CLOUDS, (8, 8)).astype(np.float32)
    clouds = cv2.resize(coarse, (SIZE, SIZE), interpolation=cv2.INTER_CUBIC)
    grain = rng.normal(0, GRAIN, (SIZE, SIZE)).astype(np.float32)
    tint = rng.uniform(*GROUND) + rng.uniform(-TINT, TINT, size=3)
    return (clouds + grain)[..., None] + tint.astype(np.float32)


def _draw(scan: np.ndarray, size: float, center: np.ndarray, degrees: float) -> np.ndarray:
    """The scan (8, 8) enlarged to a square of ``size`` around ``center`` (x, y), (64, 64)."""
    padded = np.pad(scan, 2)
    scale = size / scan.shape[0]
    matrix = cv2.getRotationMatrix2D(((padded.shape[1] - 1) / 2,) * 2, degrees, scale)
    matrix[:, 2] += center - 0.5 - (padded.shape[0] - 1) / 2
    return cv2.warpAffine(padded, matrix, (SIZE, SIZE), flags=cv2.INTER_CUBIC)
