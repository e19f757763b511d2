"""The files of CIFAR-100's binary version; imports no torch."""

from pathlib import Path

import numpy as np

EDGE = 32
RECORD = 2 + 3 * EDGE * EDGE
FILES = {'train': 'train.bin', 'val': 'test.bin'}
FINE, COARSE = 'fine_label_names.txt', 'coarse_label_names.txt'
LAYOUT = f'{FILES["train"]}, {FILES["val"]} and {FINE} of the binary version'
# Of the training images, as shares of 255; OFA-KD normalises students and teachers by them.
MEAN, STD = (0.5071, 0.4865, 0.4409), (0.2673, 0.2564, 0.2762)
OFFICIAL = {'train images': 50_000, 'val images': 10_000, 'classes': 100}


def open_records(root: str | Path, split: str) -> np.ndarray:
    """(images, 3074) uint8 of a split, mapped and not read.

    Raises:
        FileNotFoundError: the file is missing.
        ValueError: an unknown split, or a file that is no whole number of records.
    """
    if split not in FILES:
        raise ValueError(f'split={split!r}: expected one of {", ".join(FILES)}')
    path = Path(root) / FILES[split]
    if not path.is_file():
        raise FileNotFoundError(f'missing data: {path}; expected {LAYOUT}')
    size = path.stat().st_size
    if not size or size % RECORD:
        raise ValueError(f'{path} has {size:,} bytes, no whole number of records of {RECORD}')
    return np.memmap(path, np.uint8, 'r').reshape(-1, RECORD)


def read_classes(root: str | Path) -> tuple[str, ...]:
    """Names of the fine classes in the order of labels.

    Raises:
        FileNotFoundError: their file is missing.
    """
    path = Path(root) / FINE
    if not path.is_file():
        raise FileNotFoundError(f'missing data: {path}; expected {LAYOUT}')
    return tuple(path.read_text(encoding='utf-8').split())
