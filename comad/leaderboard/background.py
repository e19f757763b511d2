"""What a segmentation is worth that calls every pixel by one name."""

import os
from pathlib import Path

import numpy as np
from PIL import Image


def constant_miou(annotations: str | os.PathLike[str]) -> float:
    """Return the mIoU in percent of predicting the commonest class everywhere.

    Label 0 is ignored, as ADE20K's evaluation does. All classes but the predicted one have IoU 0;
    the mean runs over the classes that occur.

    Args:
        annotations: Folder of PNG label maps.

    Raises:
        FileNotFoundError: If the folder holds no PNG.
    """
    counts = np.zeros(256, dtype=np.int64)
    paths = sorted(Path(annotations).glob('*.png'))
    if not paths:
        raise FileNotFoundError(f'no label maps in {annotations}')
    for path in paths:
        with Image.open(path) as image:
            counts += np.bincount(np.asarray(image).ravel(), minlength=256)
    labelled = counts[1:]
    return float(100 * labelled.max() / labelled.sum() / np.count_nonzero(labelled))
