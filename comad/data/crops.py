"""Crops: rectangles drawn from torch's generator, cut out and resized in either kind of image.

An image is Pillow's, or an array (H, W, 3) uint8. For an array the resize is torch's in 8 bits with
antialias, the same algorithm as Pillow's in vector instructions: pixels differ by rounding alone.
Measured for 240 x 270 to 224 x 224 pixels, bicubic, one core: Pillow 0.9 ms, torch 0.3 ms, mean
difference 0.003 of 255; OpenCV's INTER_AREA 0.5 ms with a mean difference of 2.
"""

import math
from abc import ABC, abstractmethod

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torchvision.transforms import InterpolationMode
from torchvision.transforms.v2 import functional

from comad.data.decode import load_opencv

ASPECT_RATIOS = (3 / 4, 4 / 3)
AnyImage = Image.Image | np.ndarray
Box = tuple[int, int, int, int]
RESIZE = {
    'bilinear': torch.ops.aten._upsample_bilinear2d_aa.default,
    'bicubic': torch.ops.aten._upsample_bicubic2d_aa.default,
}


def image_size(image: AnyImage) -> tuple[int, int]:
    """Width and height in pixels."""
    if isinstance(image, np.ndarray):
        return image.shape[1], image.shape[0]
    return image.size


def resize(pixels: np.ndarray, height: int, width: int, interpolation: str) -> np.ndarray:
    """A contiguous (H, W, 3) uint8 array resized with antialias, (height, width, 3)."""
    if pixels.shape[:2] == (height, width):
        return pixels
    # In this order of axes torch sees channels last, which saves it two copies.
    source = torch.from_numpy(pixels)[None].permute(0, 3, 1, 2)
    return RESIZE[interpolation](source, [height, width], False)[0].permute(1, 2, 0).numpy()


def to_tensor(pixels: np.ndarray) -> Tensor:
    """An array (H, W, 3) as a tensor (3, H, W), in a tenth of the time of a transposed copy."""
    planes = np.empty((3, *pixels.shape[:2]), np.uint8)
    load_opencv().split(pixels, list(planes))
    return torch.from_numpy(planes)


class Crop(ABC):
    """A random rectangle, resized to a square.

    Args:
        size: edge of the square output in pixels.
        scale: range of the share of the area.
        interpolation: of the resize, with antialias.
    """

    def __init__(
        self, size: int, scale: tuple[float, float], interpolation: InterpolationMode
    ) -> None:
        self.size, self.scale, self.interpolation = size, tuple(scale), interpolation

    @abstractmethod
    def draw(self, width: int, height: int) -> Box:
        """Top, left, height and width of a crop of an image."""

    def tensor(self, image: AnyImage, flip: float = 0.0) -> Tensor:
        """The crop of an image, mirrored with that probability, (3, size, size) uint8."""
        box = self.draw(*image_size(image))
        mirrored = float(torch.rand(1)) < flip
        if isinstance(image, np.ndarray):
            return to_tensor(self._cut(image, box, mirrored))
        crop = self._cut_pillow(image, box)
        return functional.pil_to_tensor(functional.horizontal_flip(crop) if mirrored else crop)

    def __call__(self, image: AnyImage) -> Image.Image:
        """The crop of an image, for steps that need Pillow."""
        box = self.draw(*image_size(image))
        if isinstance(image, np.ndarray):
            return Image.fromarray(self._cut(image, box, False))
        return self._cut_pillow(image, box)

    def _cut_pillow(self, image: Image.Image, box: Box) -> Image.Image:
        size = [self.size, self.size]
        return functional.resized_crop(image, *box, size, self.interpolation, antialias=True)

    def _cut(self, image: np.ndarray, box: Box, mirrored: bool) -> np.ndarray:
        top, left, height, width = box
        part = image[top : top + height, left : left + width]
        # Either copies once: the resize takes twice as long on rows with gaps.
        part = load_opencv().flip(part, 1) if mirrored else np.ascontiguousarray(part)
        return resize(part, self.size, self.size, self.interpolation.value)


class RandomCrop(Crop):
    """The usual random resized crop: tries up to ten times until the drawn rectangle fits.

    Same draws from torch's generator, and the same rectangles, as torchvision's RandomResizedCrop,
    in a third of the time.
    """

    low, high = torch.log(torch.tensor(ASPECT_RATIOS)).tolist()

    def draw(self, width: int, height: int) -> Box:
        area = width * height
        for _ in range(10):
            target = area * torch.empty(1).uniform_(*self.scale).item()
            ratio = torch.empty(1).uniform_(self.low, self.high).exp_().item()
            crop_width, crop_height = _edges(target, ratio)
            if 0 < crop_width <= width and 0 < crop_height <= height:
                return _place(width, height, crop_width, crop_height)
        crop_width, crop_height = width, height
        if width / height < ASPECT_RATIOS[0]:
            crop_height = round(width / ASPECT_RATIOS[0])
        elif width / height > ASPECT_RATIOS[1]:
            crop_width = round(height * ASPECT_RATIOS[1])
        return (height - crop_height) // 2, (width - crop_width) // 2, crop_height, crop_width


class SingleTryCrop(Crop):
    """Random resized crop that is drawn once and cut to the image, as in BYOL's TensorFlow code.

    The area is U(scale) times the image's, the logarithm of the aspect ratio uniform between those
    of 3/4 and 4/3. Where the drawn rectangle is wider or higher than the image, that edge becomes
    the image's, so on long images the crop is smaller than drawn; torchvision would draw again.

    Source: MAE's code for linear probing (util/crop.py; arXiv:2111.06377, appendix A.1), whose
    order of draws is kept. Ours: an edge has at least one pixel.
    """

    def draw(self, width: int, height: int) -> Box:
        area = width * height * float(torch.empty(1).uniform_(*self.scale))
        low, high = (math.log(ratio) for ratio in ASPECT_RATIOS)
        ratio = math.exp(float(torch.empty(1).uniform_(low, high)))
        edges = _edges(area, ratio)
        crop_width, crop_height = min(max(1, edges[0]), width), min(max(1, edges[1]), height)
        return _place(width, height, crop_width, crop_height)


def _edges(area: float, ratio: float) -> tuple[int, int]:
    """Width and height of a rectangle of that area and ratio of width to height."""
    return round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))


def _place(width: int, height: int, crop_width: int, crop_height: int) -> Box:
    top = int(torch.randint(0, height - crop_height + 1, (1,)))
    left = int(torch.randint(0, width - crop_width + 1, (1,)))
    return top, left, crop_height, crop_width
