"""From batches of uint8 images to normalised floats on the device."""

from collections.abc import Sequence
from functools import cache
from typing import Any

import torch
from mmengine.model import BaseDataPreprocessor
from mmengine.registry import MODELS
from torch import Tensor

# Of ImageNet, in units of 0-255; all three teachers were trained with them.
MEAN = (123.675, 116.28, 103.53)
STD = (58.395, 57.12, 57.375)


def copied(images: Tensor, device: torch.device | str, non_blocking: bool = True) -> Tensor:
    """Images on the device. From pinned memory they go there beside what a GPU still computes.

    The host is ahead of the GPU, so the copy begins while the step before is running; in line with
    its kernels it would begin when they are done.
    """
    device = torch.device(device)
    if device.type != 'cuda' or not non_blocking or not images.is_pinned():
        return images.to(device, non_blocking=non_blocking)
    present, side = torch.cuda.current_stream(device), _side_stream(device)
    with torch.cuda.stream(side):
        images = images.to(device, non_blocking=True)
    present.wait_stream(side)
    images.record_stream(present)
    return images


@cache
def _side_stream(device: torch.device) -> 'torch.cuda.Stream':
    return torch.cuda.Stream(device)


@MODELS.register_module()
class ImageDataPreprocessor(BaseDataPreprocessor):
    """Stacks images, moves them to the device as uint8, then flips and normalises them there.

    Args:
        mean: of red, green and blue, in units of 0-255.
        std: the same.
        flip_prob: probability of a mirror image per image and view, in training only. View types
            flip by themselves; this serves data that comes without.
        non_blocking: do not wait for the copy to the device.

    Raises:
        ValueError: a probability out of range; mean or std without three values, std not positive.
    """

    def __init__(
        self,
        mean: Sequence[float] = MEAN,
        std: Sequence[float] = STD,
        flip_prob: float = 0.0,
        non_blocking: bool = True,
    ) -> None:
        super().__init__(non_blocking=non_blocking)
        if not 0 <= flip_prob <= 1:
            raise ValueError(f'flip_prob={flip_prob}: expected a probability from 0 to 1')
        if len(mean) != 3 or len(std) != 3 or min(std) <= 0:
            raise ValueError(f'mean={mean}, std={std}: expected three values each, std above 0')
        self.flip_prob = flip_prob
        # Not saved: they are no weights.
        self.register_buffer('mean', torch.tensor(mean).view(3, 1, 1), persistent=False)
        self.register_buffer('std', torch.tensor(std).view(3, 1, 1), persistent=False)

    def forward(self, data: dict[str, Any], training: bool = False) -> dict[str, Any]:
        """Normalise a batch.

        Args:
            data: ``inputs``: B images (3, H, W) uint8, as a list or stacked, or a list of such
                batches, one per view; ``labels``, if any: B integers.
            training: whether to flip.

        Returns:
            ``inputs``: (B, 3, H, W) float32, a list of these if there are several views;
            ``labels``: (B,) int64.

        Raises:
            TypeError: images that are not uint8.
        """
        inputs, views = data['inputs'], None
        if not isinstance(inputs, Tensor) and (
            not isinstance(inputs[0], Tensor) or inputs[0].ndim == 4
        ):
            views = [self._normalised(view, training) for view in inputs]
        result = {**data, 'inputs': views or self._normalised(inputs, training)}
        if 'labels' in data:
            labels = torch.as_tensor(data['labels'], dtype=torch.int64)
            result['labels'] = labels.to(self.device, non_blocking=self._non_blocking)
        return result

    def _normalised(self, images: Tensor | Sequence[Tensor], training: bool) -> Tensor:
        images = images if isinstance(images, Tensor) else torch.stack(tuple(images))
        if images.dtype != torch.uint8:
            raise TypeError(f'images are {images.dtype}: expected uint8, from 0 to 255')
        images = copied(images, self.device, self._non_blocking)
        if training and self.flip_prob:
            # Drawn on the CPU, so that all devices flip alike.
            flip = torch.rand(len(images), 1, 1, 1) < self.flip_prob
            images = torch.where(flip.to(self.device), images.flip(-1), images)
        return (images - self.mean) / self.std


@MODELS.register_module()
class VideoDataPreprocessor(ImageDataPreprocessor):
    """The same for clips (3, T, H, W); in training several clips of one video become clips each.

    Args: see `ImageDataPreprocessor`, without mirroring: the views of clips mirror by themselves.
    """

    def __init__(
        self,
        mean: Sequence[float] = MEAN,
        std: Sequence[float] = STD,
        non_blocking: bool = True,
    ) -> None:
        super().__init__(mean, std, non_blocking=non_blocking)

    def forward(self, data: dict[str, Any], training: bool = False) -> dict[str, Any]:
        """Normalise a batch.

        Args:
            data: ``inputs``: B clips (3, T, H, W) uint8, or (S, 3, T, H, W) with S of each video,
                as a list or stacked; ``labels``, if any: B integers.
            training: whether the clips of a video are separate samples.

        Returns:
            ``inputs``: (B, 3, T, H, W) float32, or (B S, ...) in training and (B, S, ...)
            otherwise; ``labels``: (B,) or (B S,) int64.

        Raises:
            TypeError: clips that are not uint8.
        """
        inputs = data['inputs']
        clips = inputs if isinstance(inputs, Tensor) else torch.stack(tuple(inputs))
        if clips.dtype != torch.uint8:
            raise TypeError(f'clips are {clips.dtype}: expected uint8, from 0 to 255')
        clips = copied(clips, self.device, self._non_blocking)
        clips = (clips - self.mean[:, None]) / self.std[:, None]
        several = clips.shape[1] if training and clips.dim() == 6 else 1
        result = {**data, 'inputs': clips.flatten(0, 1) if several > 1 else clips}
        if 'labels' in data:
            labels = torch.as_tensor(data['labels'], dtype=torch.int64).repeat_interleave(several)
            result['labels'] = labels.to(self.device, non_blocking=self._non_blocking)
        return result
