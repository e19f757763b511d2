"""Generated photographs-like JPEG files of ImageNet's size, for measurements without ImageNet."""

import io
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageDraw

WIDTH, HEIGHT = 500, 375
# ImageNet's mean file size in bytes, and how near the generated mean has to come.
WANTED, LOW, HIGH = 110_000, 105_000, 115_000
CLASSES = 10
# The amplitude of the noise falls with frequency as in photographs, colour's a little faster.
GREY_SLOPE, COLOR_SLOPE = 1.0, 1.2
SHAPES = 8


class Generated(NamedTuple):
    """What was written: number of files, mean size in bytes and the JPEG quality that gave it."""

    images: int
    mean_bytes: float
    quality: int


def draw_image(seed: int) -> Image.Image:
    """1/f noise with shapes before it, 500 x 375 px RGB; the same for equal seeds."""
    generator = np.random.default_rng(seed)
    grey = _noise(generator, GREY_SLOPE)
    colors = [_noise(generator, COLOR_SLOPE) for _ in range(3)]
    pixels = np.stack([128 + 50 * grey + 15 * color for color in colors], -1)
    image = Image.fromarray(pixels.clip(0, 255).astype(np.uint8))
    draw = ImageDraw.Draw(image)
    for number in range(SHAPES):
        x, y = int(generator.integers(WIDTH)), int(generator.integers(HEIGHT))
        across, down = generator.integers(10, 70, 2).tolist()
        shape = draw.ellipse if number % 2 else draw.rectangle
        shape((x, y, x + across, y + down), fill=tuple(generator.integers(0, 256, 3).tolist()))
    return image


def write_images(root: Path, images: int) -> Generated:
    """Write that many files in ImageNet's layout below ``root/train``.

    One quality serves all of them, the one whose mean size over the first eight files comes
    nearest to ImageNet's 110 KB.

    Raises:
        ValueError: less than one image.
    """
    if images < 1:
        raise ValueError(f'images={images}: expected 1 or more')
    first = [draw_image(seed) for seed in range(min(8, images))]

    def distance(quality: int) -> float:
        return abs(np.mean([len(_encoded(image, quality)) for image in first]) - WANTED)

    quality = min(range(84, 97), key=distance)
    sizes = []
    for seed in range(images):
        data = _encoded(first[seed] if seed < len(first) else draw_image(seed), quality)
        name = f'n{seed % CLASSES:08d}'
        folder = root / 'train' / name
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f'{name}_{seed}.JPEG').write_bytes(data)
        sizes.append(len(data))
    return Generated(images, float(np.mean(sizes)), quality)


def _noise(generator: np.random.Generator, slope: float) -> np.ndarray:
    """Noise of mean 0 and deviation 1 with amplitude 1 / frequency^slope, (HEIGHT, WIDTH)."""
    rows, columns = np.fft.fftfreq(HEIGHT)[:, None], np.fft.rfftfreq(WIDTH)[None]
    frequency = np.hypot(rows, columns)
    frequency[0, 0] = 1
    spectrum = np.fft.rfft2(generator.standard_normal((HEIGHT, WIDTH))) / frequency**slope
    spectrum[0, 0] = 0
    noise = np.fft.irfft2(spectrum, s=(HEIGHT, WIDTH))
    return noise / noise.std()


def _encoded(image: Image.Image, quality: int) -> bytes:
    file = io.BytesIO()
    image.save(file, 'JPEG', quality=quality)
    return file.getvalue()
