"""Views: from one decoded image to the uint8 tensors that a task sees.

A config names a view type and its fields, ``views=dict(type='SingleView', size=224)``. The image is
Pillow's or an array, see `comad.data.crops`; either gives the same draws. Colours are changed
in 8 bits, as in all the recipes quoted here; `ImageDataPreprocessor` normalises on the
device. Random draws come from torch's generator and, in timm's policies, from Python's and NumPy's.
"""

import copy
import random
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from typing import Any, ClassVar

import numpy as np
import torch
from PIL import Image, ImageFilter
from timm.data import auto_augment, create_transform
from timm.data.constants import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD
from timm.data.random_erasing import RandomErasing
from torch import Tensor
from torchvision.transforms import InterpolationMode, v2

from comad.data.crops import (
    AnyImage,
    Crop,
    RandomCrop,
    SingleTryCrop,
    image_size,
    resize,
    to_tensor,
)

INTERPOLATIONS = ('bilinear', 'bicubic')


@dataclass(kw_only=True)
class View(ABC):
    """Base of the view types: checks the common fields.

    Args:
        size: edge of the square output in pixels.
        interpolation: 'bilinear' or 'bicubic'; both average when they shrink (Pillow).

    Raises:
        ValueError: a field out of range.
    """

    # Fields that hold a probability, or a range (low, high) of image area.
    probabilities: ClassVar[tuple[str, ...]] = ()
    areas: ClassVar[tuple[str, ...]] = ()
    interpolations: ClassVar[tuple[str, ...]] = INTERPOLATIONS

    size: int = 224
    interpolation: str = 'bicubic'

    def __post_init__(self) -> None:
        if not isinstance(self.size, int) or self.size < 1:
            raise ValueError(f'views.size={self.size!r}: expected a number of pixels')
        if self.interpolation not in self.interpolations:
            accepted = ' or '.join(self.interpolations)
            raise ValueError(f'views.interpolation={self.interpolation!r}: expected {accepted}')
        for name in self.probabilities:
            value = getattr(self, name)
            values = value if isinstance(value, (list, tuple)) else (value,)
            if not all(0 <= one <= 1 for one in values):
                raise ValueError(f'views.{name}={value!r}: expected probabilities from 0 to 1')
        for name in self.areas:
            value = getattr(self, name)
            if len(value) != 2 or not 0 < value[0] <= value[1] <= 1:
                raise ValueError(
                    f'views.{name}={value!r}: expected (low, high) with 0 < low <= high <= 1'
                )
        self.build()

    @abstractmethod
    def build(self) -> None:
        """Compose the transforms once the fields are checked."""

    @abstractmethod
    def __call__(self, image: AnyImage) -> Tensor | list[Tensor]:
        """The view (3, size, size) uint8 of an RGB image, or the list of its views."""

    def random_crop(self, size: int, area: tuple[float, float]) -> Crop:
        """Random resized crop with the usual aspect ratios of 3/4 to 4/3."""
        return RandomCrop(size, area, InterpolationMode(self.interpolation))


@dataclass(kw_only=True)
class SingleView(View):
    """Random resized crop and flip, MAE's augmentation (arXiv:2111.06377, A.1).

    Args:
        scale: share of the image's area that a crop covers; MAE pretrains with 0.2-1.
        flip: probability of a mirror image; 0 for what has a side, such as digits.
        single_try: draw the crop once and cut it to the image, `SingleTryCrop`, as MAE's linear
            probe does; otherwise torchvision draws up to ten times until one fits.

    Raises:
        ValueError: also if single_try is neither True nor False.
    """

    probabilities = ('flip',)
    areas = ('scale',)

    scale: tuple[float, float] = (0.2, 1.0)
    flip: float = 0.5
    single_try: bool = False

    def build(self) -> None:
        if not isinstance(self.single_try, bool):
            raise ValueError(f'views.single_try={self.single_try!r}: expected True or False')
        kind = SingleTryCrop if self.single_try else RandomCrop
        self.crop = kind(self.size, self.scale, InterpolationMode(self.interpolation))

    def __call__(self, image: AnyImage) -> Tensor:
        return self.crop.tensor(image, self.flip)


class GaussianBlur:
    """Pillow's Gaussian blur with a radius drawn from a range, as in MoCo v3's and iBOT's code."""

    def __init__(self, radius: tuple[float, float]) -> None:
        self.radius = tuple(radius)

    def __call__(self, image: Image.Image) -> Image.Image:
        radius = float(torch.empty(1).uniform_(*self.radius))
        return image.filter(ImageFilter.GaussianBlur(radius))


@dataclass(kw_only=True)
class ColorView(View):
    """Common part of MoCo v3 and iBOT: crop, jitter, grey, blur, solarize, flip.

    Args:
        flip: probability of a mirror image; 0 for what has a side, such as digits.
        jitter: strength of brightness, contrast, saturation and hue.
        jitter_prob: probability of the jitter.
        gray_prob: probability of a grey image.
        blur_radius: range of the blur's radius in pixels of the output.
    """

    probabilities = ('flip', 'jitter_prob', 'gray_prob')

    flip: float = 0.5
    jitter: tuple[float, float, float, float] = (0.4, 0.4, 0.2, 0.1)
    jitter_prob: float = 0.8
    gray_prob: float = 0.2
    blur_radius: tuple[float, float] = (0.1, 2.0)

    def augmentation(
        self, size: int, area: tuple[float, float], blur_prob: float, solarize_prob: float = 0.0
    ) -> Callable[[AnyImage], Tensor]:
        """The transform of one view; steps that can never happen are left out."""
        steps = [
            (1.0, self.random_crop(size, area)),
            (self.jitter_prob, v2.ColorJitter(*self.jitter)),
            (self.gray_prob, v2.Grayscale(num_output_channels=3)),
            (blur_prob, GaussianBlur(self.blur_radius)),
            (solarize_prob, v2.RandomSolarize(threshold=128, p=1.0)),
            (self.flip, v2.RandomHorizontalFlip(p=1.0)),
            (1.0, v2.PILToTensor()),
        ]
        return v2.Compose(
            [
                step if probability == 1 else v2.RandomApply([step], p=probability)
                for probability, step in steps
                if probability > 0
            ]
        )


@dataclass(kw_only=True)
class TwoViews(ColorView):
    """MoCo v3's two asymmetric views: one always blurred, the other sometimes solarized.

    Source: arXiv:2104.02057 and its official code (BYOL's augmentation). Bilinear there.

    Args:
        scale: share of the image's area that a crop covers; official 0.08-1 for ViTs.
        blur_probs: of the two views.
        solarize_probs: of the two views.
    """

    probabilities = (*ColorView.probabilities, 'blur_probs', 'solarize_probs')
    areas = ('scale',)

    interpolation: str = 'bilinear'
    scale: tuple[float, float] = (0.08, 1.0)
    blur_probs: tuple[float, float] = (1.0, 0.1)
    solarize_probs: tuple[float, float] = (0.0, 0.2)

    def build(self) -> None:
        self.transforms = [
            self.augmentation(self.size, self.scale, blur, solarize)
            for blur, solarize in zip(self.blur_probs, self.solarize_probs, strict=True)
        ]

    def __call__(self, image: AnyImage) -> list[Tensor]:
        return [transform(image) for transform in self.transforms]


@dataclass(kw_only=True)
class MultiCrop(ColorView):
    """iBOT's multi-crop (DINO's augmentation): two global views, then small local ones.

    Source: arXiv:2111.07832 and its official code; the defaults are its ViT-B recipe.

    Args:
        scale: share of the image's area that a global crop covers.
        local_scale: the same of a local crop.
        num_local: number of local crops, may be 0.
        local_size: edge of a local crop; default 3/7 of ``size`` (96 of 224), rounded to a
            multiple of 8.
        blur_probs: of the two global views.
        solarize_probs: of the two global views.
        local_blur_prob: of the local ones.
    """

    probabilities = (*TwoViews.probabilities, 'local_blur_prob')
    areas = ('scale', 'local_scale')

    scale: tuple[float, float] = (0.32, 1.0)
    local_scale: tuple[float, float] = (0.05, 0.32)
    num_local: int = 10
    local_size: int | None = None
    blur_probs: tuple[float, float] = (1.0, 0.1)
    solarize_probs: tuple[float, float] = (0.0, 0.2)
    local_blur_prob: float = 0.5

    def build(self) -> None:
        if self.local_size is None:
            self.local_size = max(8, 8 * round(self.size * 3 / 7 / 8))
        self.transforms = [
            self.augmentation(self.size, self.scale, blur, solarize)
            for blur, solarize in zip(self.blur_probs, self.solarize_probs, strict=True)
        ]
        local = self.augmentation(self.local_size, self.local_scale, self.local_blur_prob)
        self.transforms += [local] * self.num_local

    def __call__(self, image: AnyImage) -> list[Tensor]:
        return [transform(image) for transform in self.transforms]


def _posterize(image: Image.Image, bits_to_keep: int, **options: Any) -> Image.Image:
    """timm's operation, which asks for 0 bits at magnitude 10: Pillow 13 refuses what used to be
    a black image, and published recipes were trained with."""
    if bits_to_keep == 0:
        return Image.new(image.mode, image.size)
    return auto_augment.posterize(image, bits_to_keep, **options)


@dataclass(kw_only=True)
class TimmTrain(View):
    """timm's training augmentation for classification.

    Args:
        interpolation: also 'random', one of the two for every image.
        scale: share of the image's area that a crop covers.
        flip: probability of a mirror image; 0 for what has a side, such as digits.
        auto_augment: timm's policy text, e.g. 'rand-m9-mstd0.5-inc1'; None for none.
        color_jitter: strength; timm ignores it next to a policy.
        re_prob: probability of random erasing, with noise per pixel.
        re_mean, re_std: of the noise, as shares of 255; the data's own normalisation.
    """

    probabilities = ('flip', 're_prob')
    areas = ('scale',)
    interpolations = (*INTERPOLATIONS, 'random')

    scale: tuple[float, float] = (0.08, 1.0)
    flip: float = 0.5
    auto_augment: str | None = None
    color_jitter: float | None = 0.4
    re_prob: float = 0.0
    re_mean: tuple[float, float, float] = IMAGENET_DEFAULT_MEAN
    re_std: tuple[float, float, float] = IMAGENET_DEFAULT_STD

    def build(self) -> None:
        # Only its last step, erasing, works on normalised floats.
        self.transform = create_transform(
            self.size,
            is_training=True,
            scale=tuple(self.scale),
            hflip=self.flip,
            auto_augment=self.auto_augment,
            color_jitter=self.color_jitter,
            interpolation=self.interpolation,
            normalize=False,
        )
        for step in self.transform.transforms:
            for operation in getattr(step, 'ops', ()):
                if operation.aug_fn is auto_augment.posterize:
                    operation.aug_fn = _posterize
        self.erase = RandomErasing(probability=1.0, mode='pixel', device='cpu')

    def __call__(self, image: AnyImage) -> Tensor:
        # timm's operations are Pillow's: an array gains its decoding only.
        image = Image.fromarray(image) if isinstance(image, np.ndarray) else image
        tensor = self.transform(image)
        if self.re_prob and random.random() < self.re_prob:
            tensor = self._erased(tensor)
        return tensor

    def _erased(self, image: Tensor) -> Tensor:
        """timm's noise is N(0, 1) after normalisation; as a colour it is cut at 0 and 255."""
        mean, std = (
            255 * torch.tensor(value).view(3, 1, 1)
            for value in (self.re_mean, self.re_std)
        )
        erased = self.erase((image - mean) / std)
        return (erased * std + mean).round().clamp(0, 255).to(torch.uint8)


@dataclass(kw_only=True)
class CenterCrop(View):
    """Evaluation: resize the shorter edge, cut the centre.

    Args:
        resize: shorter edge before the cut; default ``size`` / 0.875 (256 for 224).
    """

    resize: int | None = None

    def build(self) -> None:
        if self.resize is None:
            self.resize = round(self.size / 0.875)
        if not self.size <= self.resize <= 2 * self.size:
            raise ValueError(
                f'views.resize={self.resize}: expected {self.size} (size) to {2 * self.size}; '
                'more would cut away most of the image'
            )
        mode = InterpolationMode(self.interpolation)
        self.transform = v2.Compose(
            [
                v2.Resize(self.resize, mode, antialias=True),
                v2.CenterCrop(self.size),
                v2.PILToTensor(),
            ]
        )

    def __call__(self, image: AnyImage) -> Tensor:
        if not isinstance(image, np.ndarray):
            return self.transform(image)
        width, height = (self.resize * edge // min(image_size(image)) for edge in image_size(image))
        # The whole image: its edges take part in the resize.
        resized = resize(image, height, width, self.interpolation)
        top, left = round((height - self.size) / 2), round((width - self.size) / 2)
        return to_tensor(resized[top : top + self.size, left : left + self.size])


VIEWS: dict[str, type[View]] = {
    view.__name__: view for view in (SingleView, TwoViews, MultiCrop, TimmTrain, CenterCrop)
}


def build_views(config: Mapping[str, Any]) -> View:
    """Build the view type that ``config['type']`` names; the other keys are its fields.

    Raises:
        ValueError: an unknown type, field or value; the message names it and what is accepted.
    """
    options = dict(config)
    kind = options.pop('type', None)
    if kind not in VIEWS:
        raise ValueError(f'views.type={kind!r}: expected one of {", ".join(VIEWS)}')
    accepted = [entry.name for entry in fields(VIEWS[kind]) if entry.init]
    for key in options:
        if key not in accepted:
            raise ValueError(f'views.{key}: {kind} takes {", ".join(accepted)}')
    return VIEWS[kind](**options)


def centre_views(dataset: Any, size: int, resize: int | None = None) -> Any:
    """A shallow copy of a dataset whose images come as one centre crop, without augmentation.

    The files are not listed again. Wrappers, which hold what they wrap as ``dataset``, are kept.

    Args:
        dataset: an `ImageNetFolder`, or wrappers around one.
        size: edge of the crop in pixels.
        resize: shorter edge before the crop; default ``size`` / 0.875.

    Raises:
        TypeError: nothing inside has ``views``.
    """
    clone = copy.copy(dataset)
    # Wrappers hand through what they do not have: only the data set's own views count.
    if 'views' in vars(dataset) or hasattr(type(dataset), 'views'):
        clone.views = build_views(dict(type='CenterCrop', size=size, resize=resize))
    elif hasattr(dataset, 'dataset'):
        clone.dataset = centre_views(dataset.dataset, size, resize)
    else:
        raise TypeError(
            f'{type(dataset).__name__} has no views to replace: expected an ImageNetFolder'
        )
    return clone
