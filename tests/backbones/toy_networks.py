"""Networks that are no ViTs: three convolutions, with and without a classifier."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
import torch.nn.functional as F
from mmengine.registry import MODELS
from torch import nn

from backbones.architectures import ARCHITECTURES
from backbones.student import LoadsStudent, StudentWeights

# What a later network adds to the registry.
ENTRIES = {
    'cnn3': dict(type='ToyMaps', title='CNN-3', width=8),
    'cnn3_head': dict(type='ToyClassifier', title='CNN-3 with head', width=8, num_classes=5),
    'sample_cnn3': dict(type='ToyMaps', title='CNN-3', width=4),
}


@contextmanager
def registered() -> Iterator[None]:
    """The entries among the architectures."""
    ARCHITECTURES.update(ENTRIES)
    try:
        yield
    finally:
        for name in ENTRIES:
            del ARCHITECTURES[name]


@MODELS.register_module()
class ToyMaps(LoadsStudent, nn.Module):
    """Maps at strides 2 and 4."""

    strides = (2, 4)
    size_divisor = 4

    def __init__(self, width: int = 8, init_cfg: dict | None = None) -> None:
        super().__init__()
        self.init_student = StudentWeights.from_cfg(init_cfg)
        self.width, self.embed_dim = width, 2 * width
        self.stem = nn.Sequential(nn.Conv2d(3, width, 3, padding=1), nn.BatchNorm2d(width))
        self.first = nn.Conv2d(width, width, 2, stride=2)
        self.second = nn.Conv2d(width, 2 * width, 2, stride=2)

    def architecture(self):
        return dict(type=type(self).__name__, width=self.width)

    def maps(self, images):
        first = F.relu(self.first(F.relu(self.stem(images))))
        return first, F.relu(self.second(first))

    def forward(self, images):
        return self.maps(images)

    def features(self, images):
        return {'mean': self.maps(images)[-1].float().mean((2, 3))}


@MODELS.register_module()
class ToyClassifier(ToyMaps):
    """With class scores from the mean of the last map."""

    def __init__(self, width: int = 8, num_classes: int = 5, init_cfg: dict | None = None) -> None:
        super().__init__(width, init_cfg)
        self.num_classes = num_classes
        self.head = nn.Linear(self.embed_dim, num_classes)

    def architecture(self):
        return super().architecture() | dict(num_classes=self.num_classes)

    def logits(self, images):
        return self.head(self.maps(images)[-1].mean((2, 3)))


def images(count: int = 2, side: int = 16) -> torch.Tensor:
    return torch.randn(count, 3, side, side, generator=torch.Generator().manual_seed(0))
