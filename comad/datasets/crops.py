"""Random crops that torchvision does not have."""

import math

import torch
from PIL import Image
from torchvision.transforms import InterpolationMode
from torchvision.transforms.v2 import functional

ASPECT_RATIOS = (3 / 4, 4 / 3)


class SingleTryCrop:
    """Random resized crop that is drawn once and cut to the image, as in BYOL's TensorFlow code.

    The area is U(scale) times the image's, the logarithm of the aspect ratio uniform between those
    of 3/4 and 4/3. Where the drawn rectangle is wider or higher than the image, that edge becomes
    the image's, so on long images the crop is smaller than drawn; torchvision would draw again.

    Source: MAE's code for linear probing (util/crop.py; arXiv:2111.06377, appendix A.1), whose
    order of draws is kept. Ours: an edge has at least one pixel.

    Args:
        size: edge of the square output in pixels.
        scale: range of the share of the area.
        interpolation: of the resize, with antialias.
    """

    def __init__(
        self, size: int, scale: tuple[float, float], interpolation: InterpolationMode
    ) -> None:
        self.size, self.scale, self.interpolation = size, tuple(scale), interpolation

    def draw(self, width: int, height: int) -> tuple[int, int, int, int]:
        """Top, left, height and width of a crop of an image."""
        area = width * height * float(torch.empty(1).uniform_(*self.scale))
        low, high = (math.log(ratio) for ratio in ASPECT_RATIOS)
        ratio = math.exp(float(torch.empty(1).uniform_(low, high)))
        crop_width = min(max(1, round(math.sqrt(area * ratio))), width)
        crop_height = min(max(1, round(math.sqrt(area / ratio))), height)
        top = int(torch.randint(0, height - crop_height + 1, (1,)))
        left = int(torch.randint(0, width - crop_width + 1, (1,)))
        return top, left, crop_height, crop_width

    def __call__(self, image: Image.Image) -> Image.Image:
        place = self.draw(image.width, image.height)
        size = [self.size, self.size]
        return functional.resized_crop(image, *place, size, self.interpolation, antialias=True)
