"""Images as a data set: ImageNet's layout in class folders or tar shards, or anyone's own images."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from mmengine.registry import DATASETS
from torch.utils.data import Dataset

from comad.data.decode import DECODE_ERRORS, get_decoder, unreadable
from comad.data.own import open_own
from comad.data.storage import open_storage
from comad.data.subset import check_subset, keep_classes, select_subset
from comad.data.views import build_views


@DATASETS.register_module()
class ImageNetFolder(Dataset):
    """Images of ``root/split``, in class folders or in tar shards, whichever is there.

    Both give the same samples in the same order: sorted by class, then by file name.

    Args:
        root: folder that holds ``train`` and ``val``, and beside shards ``classes.txt``.
        split: 'train', 'val' or any other folder of ``root``.
        views: config of a view type of `comad.data.views`.
        subset: part of the split for few-label evaluation, see `comad.data.subset`:
            ``dict(share=0.01, seed=0)`` or ``dict(list='data/imagenet/1percent.txt')``.
        classes: these alone, by the name of a list that comes with the suite or by a file, see
            `comad.data.subset.read_classes_of`; ``imagenet-100``, for example.
        decode: 'pillow', or 'opencv', which is faster: JPEG through OpenCV, crops resized by torch,
            the same rectangles and draws, colours that may differ by rounding. A field of the
            protocol. Views whose further steps are Pillow's go on in Pillow.
        with_index: items tell their ``index``, for methods with a memory.
        own: how ``root`` is read as data of one's own, see `comad.data.own.open_own`:
            ``dict(labels=True, holdout=0.2, seed=0)``; None: in ImageNet's layout.

    Raises:
        FileNotFoundError: the folder of the split does not exist.
        ValueError: an unknown decoder; unknown view or subset options; malformed folders or shards,
            see `comad.data.storage.open_storage`.
    """

    def __init__(
        self,
        root: str | Path,
        split: str = 'train',
        views: Mapping[str, Any] | None = None,
        subset: Mapping[str, Any] | None = None,
        classes: str | None = None,
        decode: str = 'pillow',
        with_index: bool = False,
        own: Mapping[str, Any] | None = None,
    ) -> None:
        # Before the scan of a million files.
        self.views = build_views(views or {'type': 'SingleView'})
        self.decoder = get_decoder(decode)
        if subset is not None:
            check_subset(subset)
        self.root, self.split, self.subset, self.own = root, split, subset, own
        self.with_index = with_index
        self.storage = open_storage(root, split) if own is None else open_own(root, split, **own)
        if classes is not None:
            self.storage = keep_classes(self.storage, classes)
        self.indices = (
            np.arange(len(self.storage)) if subset is None else select_subset(self.storage, subset)
        )
        self.metainfo = {'classes': self.storage.classes}

    @property
    def labels(self) -> np.ndarray:
        """(N,) classes of all items."""
        return self.storage.labels[self.indices]

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, index: int) -> dict[str, Any]:
        """``inputs``: (3, H, W) uint8 or a list of such views; ``labels``: the class, int; with
        ``with_index`` ``index``, the item's number.

        Raises:
            OSError: the file cannot be read as an image.
        """
        place = int(self.indices[index])
        data = self.storage.read(place)
        try:
            image = self.decoder(data)
        except DECODE_ERRORS as error:
            raise unreadable(self.storage.place(place), error) from error
        item = {'inputs': self.views(image), 'labels': int(self.storage.labels[place])}
        return {**item, 'index': int(index)} if self.with_index else item
