"""Clips: which frames of a video are read, and the uint8 tensors that are made of them.

A config names a sampling, ``sampling=dict(type='strided', frames=16, stride=4)``, and views,
``views=dict(type='ClipTrain', size=224)``. The rules are those of VideoMAE's and AMD's code
(arXiv:2203.12602, arXiv:2311.03149). Random draws come from torch's generator and, in timm's
policies, from Python's and NumPy's.
"""

import random
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from timm.data import auto_augment
from timm.data.constants import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD
from timm.data.random_erasing import RandomErasing
from torch import Tensor
from torchvision.transforms import InterpolationMode
from torchvision.transforms.v2 import functional

from comad.data.crops import RandomCrop
from comad.data.decode import load_opencv

Indices = list[np.ndarray]

# Sampling: from the number of frames of a video to the frames of its clips ----------------------


def _strided(n: int, frames: int, stride: int, clips: int) -> Indices:
    """Pretraining on Kinetics: every ``stride``-th frame from a random start.

    A short video repeats the last frame that the stride reaches; as in the official code that
    frame has another one behind it.
    """
    start = int(torch.randint(max(1, n - frames * stride + 1), (1,)))
    indices = [start]
    for _ in range(frames - 1):
        step = stride if indices[-1] + 1 + stride < n else 0
        indices.append(indices[-1] + step)
    return [np.array(indices)]


def _linspace(n: int, frames: int, stride: int, clips: int) -> Indices:
    """Fine-tuning on Kinetics and pretraining on Something-Something: evenly over a window.

    The window of frames x stride begins anywhere; gaps differ by one. A video that is no longer
    gives every ``stride``-th frame, evenly, then its last one.
    """
    window = frames * stride
    if n <= window:
        found = np.linspace(0, n, num=n // stride)
        found = np.concatenate([found, np.full(frames - n // stride, n)])
        return [np.clip(found, 0, n - 1).astype(np.int64)]
    start = int(torch.randint(n - window, (1,)))
    found = np.linspace(start, start + window, num=frames)
    return [np.clip(found, start, start + window - 1).astype(np.int64)]


def _segments(n: int, frames: int, stride: int, clips: int) -> Indices:
    """Fine-tuning on Something-Something: a random frame of each of equal segments.

    A shorter video gives its first frame alone, as often as frames are asked for.
    """
    length = n // frames
    if not length:
        return [np.zeros(frames, np.int64)]
    return [np.arange(frames) * length + torch.randint(length, (frames,)).numpy()]


def _dense_views(n: int, frames: int, stride: int, clips: int) -> Indices:
    """Test on Kinetics: windows, evenly placed, of every ``stride``-th frame of the video.

    Fewer of these than ``frames`` are padded with the last: all clips are then the same. One clip
    is the middle one.
    """
    every = list(range(0, n, stride))
    every += every[-1:] * (frames - len(every))
    spare = len(every) - frames
    step = spare / (clips - 1) if clips > 1 else 0
    starts = [int(k * step) for k in range(clips)] if clips > 1 else [spare // 2]
    return [np.array(every[start : start + frames]) for start in starts]


def _segment_views(n: int, frames: int, stride: int, clips: int) -> Indices:
    """Test on Something-Something: first and middle frames of equal segments, by turns.

    Of one clip, the middle frames.
    """
    tick = n / frames
    middle = [int(tick / 2 + tick * x) for x in range(frames)]
    if clips == 1:
        return [np.array(middle)]
    every = sorted(middle + [int(tick * x) for x in range(frames)])
    return [np.array(every[k::clips]) for k in range(clips)]


RULES = {
    'strided': _strided,
    'linspace': _linspace,
    'segments': _segments,
    'dense_views': _dense_views,
    'segment_views': _segment_views,
}


@dataclass(frozen=True, kw_only=True)
class Sampling:
    """Which frames are read.

    Args:
        type: Name in ``RULES``; the last two are for tests.
        frames: Frames of a clip.
        stride: Frames from one to the next; segments have none.
        clips: Clips of a video, of tests.

    Raises:
        ValueError: a field out of range.
    """

    type: str
    frames: int = 16
    stride: int = 1
    clips: int = 1

    def __post_init__(self) -> None:
        if self.type not in RULES:
            raise ValueError(f'sampling.type={self.type!r}: expected one of {", ".join(RULES)}')
        for name in ('frames', 'stride', 'clips'):
            if not isinstance(value := getattr(self, name), int) or value < 1:
                raise ValueError(f'sampling.{name}={value!r}: expected 1 or more')
        if self.clips > 1 and not self.type.endswith('views'):
            raise ValueError(f'sampling.clips={self.clips}: {self.type} draws one clip')
        if self.type == 'segment_views' and self.clips > 2:
            raise ValueError(f'sampling.clips={self.clips}: segment_views has 1 or 2')

    def __call__(self, n: int) -> Indices:
        """Frames (frames,) of each clip of a video of n frames, from 0."""
        return RULES[self.type](n, self.frames, self.stride, self.clips)


# Views: from decoded frames to tensors -----------------------------------------------------------


@dataclass(kw_only=True)
class ClipView(ABC):
    """Base of the views of clips.

    Args:
        size: edge of the square output in pixels.

    Raises:
        ValueError: a field out of range.
    """

    counts: ClassVar[tuple[str, ...]] = ('size',)
    probabilities: ClassVar[tuple[str, ...]] = ()

    size: int = 224

    def __post_init__(self) -> None:
        for name in self.counts:
            if not isinstance(value := getattr(self, name), int) or value < 1:
                raise ValueError(f'views.{name}={value!r}: expected 1 or more')
        for name in self.probabilities:
            if not 0 <= (value := getattr(self, name)) <= 1:
                raise ValueError(f'views.{name}={value!r}: expected a probability from 0 to 1')

    @abstractmethod
    def __call__(self, clips: Sequence[np.ndarray]) -> Tensor:
        """(3, T, size, size) uint8 of decoded clips (T, H, W, 3), or several of these, stacked."""


@dataclass(kw_only=True)
class ClipPretrain(ClipView):
    """VideoMAE's pretraining: a crop of one of a few shapes and 13 places per clip, no mirroring.

    Edges are the short side times one of ``scales``, width and height from neighbouring entries;
    within 3 pixels of ``size`` they are ``size``. Resized bilinearly with antialias (Pillow's).

    Args:
        scales: shares of the short side, falling.
        samples: crops of each decoded clip; official 4 in AMD, 1 in VideoMAE.
    """

    counts = ('size', 'samples')

    scales: tuple[float, ...] = (1.0, 0.875, 0.75, 0.66)
    samples: int = 1

    def __call__(self, clips: Sequence[np.ndarray]) -> Tensor:
        (clip,) = clips
        crops = [self._crop(clip) for _ in range(self.samples)]
        return crops[0] if self.samples == 1 else torch.stack(crops)

    def boxes(self, height: int, width: int) -> list[tuple[int, int, int, int]]:
        """All crops (top, left, height, width), each pair of edges with its 13 places."""
        sides = [int(min(height, width) * scale) for scale in self.scales]
        sides = [self.size if abs(side - self.size) < 3 else side for side in sides]
        pairs = [(h, w) for i, h in enumerate(sides) for w in sides[max(0, i - 1) : i + 2]]
        return [(*place, h, w) for h, w in pairs for place in _places(height - h, width - w)]

    def _crop(self, clip: np.ndarray) -> Tensor:
        boxes = self.boxes(*clip.shape[1:3])
        top, left, h, w = boxes[int(torch.randint(len(boxes), (1,)))]
        part = _planes(clip[:, max(top, 0) : top + h, max(left, 0) : left + w])
        size, mode = [self.size, self.size], InterpolationMode.BILINEAR
        return functional.resize(part, size, mode, antialias=True).transpose(0, 1)


@dataclass(kw_only=True)
class ClipTrain(ClipView):
    """VideoMAE's fine-tuning augmentation; one draw of everything for all frames of a clip.

    RandAugment on Pillow's images, then a random resized crop (bilinear by torch, no antialias),
    mirroring, and a box of noise at the same place of all frames. Ours: the crop is rounded to
    8 bits and noise is cut at black and white, since normalisation waits for the device.

    Args:
        scale: share of the image's area that a crop covers.
        flip: probability of a mirror image; 0 where left and right matter.
        auto_augment: timm's policy text; None for none.
        interpolation: of the policy's geometric operations.
        re_prob: probability of random erasing.
        samples: augmented versions of each decoded clip (repeated augmentation; official 2).
    """

    counts = ('size', 'samples')
    probabilities = ('flip', 're_prob')

    scale: tuple[float, float] = (0.08, 1.0)
    flip: float = 0.5
    auto_augment: str | None = 'rand-m7-n4-mstd0.5-inc1'
    interpolation: str = 'bicubic'
    re_prob: float = 0.25
    samples: int = 1

    def __post_init__(self) -> None:
        super().__post_init__()
        low, high = self.scale
        if not 0 < low <= high <= 1:
            raise ValueError(f'views.scale={self.scale!r}: expected 0 < low <= high <= 1')
        if self.interpolation not in ('bilinear', 'bicubic'):
            raise ValueError(
                f'views.interpolation={self.interpolation!r}: expected bilinear or bicubic'
            )
        mode = Image.Resampling[self.interpolation.upper()]
        hints = dict(translate_const=int(self.size * 0.45), interpolation=mode)
        self.policy = self.auto_augment and auto_augment.rand_augment_transform(
            self.auto_augment, hints
        )
        self.crop = RandomCrop(self.size, self.scale, InterpolationMode.BILINEAR)
        self.erase = RandomErasing(probability=1.0, mode='pixel', device='cpu')

    def __call__(self, clips: Sequence[np.ndarray]) -> Tensor:
        (clip,) = clips
        made = [self._augmented(clip) for _ in range(self.samples)]
        return made[0] if self.samples == 1 else torch.stack(made)

    def _augmented(self, clip: np.ndarray) -> Tensor:
        frames = _planes(self._policed(clip) if self.policy else clip)
        top, left, h, w = self.crop.draw(clip.shape[2], clip.shape[1])
        part = frames[:, :, top : top + h, left : left + w].float()
        part = F.interpolate(part, (self.size, self.size), mode='bilinear', align_corners=False)
        if float(torch.rand(1)) < self.flip:
            part = part.flip(-1)
        if self.re_prob and random.random() < self.re_prob:
            part = self._erased(part)
        return part.round().clamp(0, 255).to(torch.uint8).transpose(0, 1)

    def _policed(self, clip: np.ndarray) -> np.ndarray:
        """Every frame by the same draw: the generators are set back for each."""
        states, images = (random.getstate(), np.random.get_state()), []
        for frame in clip:
            random.setstate(states[0])
            np.random.set_state(states[1])
            images.append(np.asarray(self.policy(Image.fromarray(frame))))
        return np.stack(images)

    def _erased(self, frames: Tensor) -> Tensor:
        """timm's box, drawn once: noise of another kind in each frame, N(0, 1) as normalised."""
        mean, std = (
            255 * torch.tensor(value).view(3, 1, 1)
            for value in (IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD)
        )
        normalised = ((frames - mean) / std).flatten(0, 1)  # one image of 3 T channels
        return self.erase(normalised).view_as(frames) * std + mean


@dataclass(kw_only=True)
class ClipTest(ClipView):
    """Test views: short side to ``size`` (OpenCV's bilinear, official), crops along the long one.

    Args:
        crops: 3 from one end to the other, or 1 in the middle.
    """

    counts = ('size', 'crops')

    crops: int = 3

    def __call__(self, clips: Sequence[np.ndarray]) -> Tensor:
        """(clips x crops, 3, T, size, size)."""
        return torch.stack([view for clip in clips for view in self._views(clip)])

    def _views(self, clip: np.ndarray) -> list[Tensor]:
        height, width = clip.shape[1:3]
        short = min(height, width)
        if short != self.size:
            cv2 = load_opencv()
            edges = tuple(
                self.size if edge == short else int(self.size * edge / short)
                for edge in (width, height)
            )
            clip = np.stack([cv2.resize(frame, edges) for frame in clip])
        spare = max(clip.shape[1:3]) - self.size
        steps = [spare / 2] if self.crops == 1 else np.arange(self.crops) * spare / (self.crops - 1)
        starts = [int(step) for step in steps]
        axis = 1 if clip.shape[1] >= clip.shape[2] else 2
        parts = (clip.take(range(start, start + self.size), axis) for start in starts)
        return [_planes(part).transpose(0, 1) for part in parts]


def _places(down: int, right: int) -> list[tuple[int, int]]:
    """Corners, middles of the edges, centre and quarters of what a crop leaves, in steps of 4."""
    down, right = down // 4, right // 4
    even = [(a, b) for a in (0, 2, 4) for b in (0, 2, 4)]
    odd = [(a, b) for a in (1, 3) for b in (1, 3)]
    return [(a * down, b * right) for a, b in even + odd]


def _planes(clip: np.ndarray) -> Tensor:
    """(T, H, W, 3) -> (T, 3, H, W), contiguous."""
    return torch.from_numpy(np.ascontiguousarray(clip.transpose(0, 3, 1, 2)))


VIEWS: dict[str, type[ClipView]] = {
    view.__name__: view for view in (ClipPretrain, ClipTrain, ClipTest)
}


def build_clip_views(config: Mapping[str, Any]) -> ClipView:
    """Build the views that ``config['type']`` names; the other keys are its fields.

    Raises:
        ValueError: an unknown type, field or value; the message names it and what is accepted.
    """
    options = dict(config)
    kind = options.pop('type', None)
    if kind not in VIEWS:
        raise ValueError(f'views.type={kind!r}: expected one of {", ".join(VIEWS)}')
    return VIEWS[kind](**_known('views', kind, VIEWS[kind], options))


def build_sampling(config: Mapping[str, Any]) -> Sampling:
    """Build a sampling from its fields.

    Raises:
        ValueError: as above.
    """
    options = dict(config)
    kind = str(options.pop('type', None))
    return Sampling(type=kind, **_known('sampling', kind, Sampling, options))


def _known(what: str, kind: str, cls: type, options: dict[str, Any]) -> dict[str, Any]:
    accepted = [entry.name for entry in fields(cls) if entry.name != 'type']
    for key in options:
        if key not in accepted:
            raise ValueError(f'{what}.{key}: {kind} takes {", ".join(accepted)}')
    return options
