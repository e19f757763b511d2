"""CIFAR-100 from its binary version, which holds bytes and no pickles.

``train.bin`` and ``test.bin`` are records of 3,074 bytes: coarse label, fine label, then 32 x 32
pixels as planes of red, green and blue (https://www.cs.toronto.edu/~kriz/cifar.html).
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from mmengine.registry import DATASETS
from PIL import Image
from torch.utils.data import Dataset

from comad.data.cifar_files import EDGE, OFFICIAL, open_records, read_classes
from comad.data.identity import CIFAR100 as NAME
from comad.data.views import build_views


@DATASETS.register_module()
class CIFAR100(Dataset):
    """Images of a split, and their fine labels.

    Args:
        root: folder ``cifar-100-binary``.
        split: 'train', or 'val', which is ``test.bin``.
        views: config of a view type of `comad.data.views`, which also enlarges the 32 px.
        with_index: items tell their ``index``, for methods with a memory.

    Raises:
        FileNotFoundError: a file is missing.
        ValueError: an unknown split or view; a file that is no whole number of records; labels
            without a name.
    """

    def __init__(
        self,
        root: str | Path,
        split: str = 'train',
        views: Mapping[str, Any] | None = None,
        with_index: bool = False,
    ) -> None:
        self.views = build_views(views or {'type': 'TimmTrain'})
        self.with_index = with_index
        self.root, self.split = root, split
        classes = read_classes(root)
        self.records = open_records(root, split)
        self.labels = self.records[:, 1].astype(np.int64)
        if (largest := int(self.labels.max())) >= len(classes):
            raise ValueError(
                f'{root}: {split} has the label {largest}, but {len(classes)} classes are named'
            )
        self.metainfo = {'classes': classes}

    @property
    def official_name(self) -> str | None:
        """The data set's name, where classes and number of images are its own."""
        wanted = (OFFICIAL[f'{self.split} images'], OFFICIAL['classes'])
        return NAME if (len(self), len(self.metainfo['classes'])) == wanted else None

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> dict[str, Any]:
        """``inputs``: (3, S, S) uint8; ``labels``: the fine class, int; perhaps ``index``: int."""
        place = int(index)
        planes = self.records[place, 2:].reshape(3, EDGE, EDGE)
        image = Image.fromarray(np.ascontiguousarray(planes.transpose(1, 2, 0)))
        item = {'inputs': self.views(image), 'labels': int(self.labels[place])}
        return {**item, 'index': place} if self.with_index else item
