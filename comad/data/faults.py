"""Unreadable images: listed once, replaced up to a limit in training, never in an evaluation."""

import errno
import fcntl
import os
from pathlib import Path
from typing import Any

import cv2
from mmengine.registry import DATASETS
from torch.utils.data import Dataset

from comad.data.decode import JPEG_START, PNG_START, first_line, has_end
from comad.data.dense import build_dataset, check_headers, check_labels, files_of

LISTING = 'bad_images.txt'
MAX_IN_A_ROW = 100
# The process or the machine is in trouble, not the file.
NOT_THE_FILE = (errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOSPC)
PNG_END = b'IEND\xaeB`\x82'
TAIL = 1024


class UnreadableData(RuntimeError):
    """Images that cannot be read stop the run; the message is one line."""


@DATASETS.register_module()
class CheckedImages(Dataset):
    """A data set whose unreadable and truncated images are found, listed and replaced.

    An image that cannot be read gives way to the next one that can, in the order of indices: a
    function of the index alone, so that a resumed run sees the same. Everything else that fails
    in the data set is raised as it is. Attributes are those of the data set inside. Image files
    of mm* data sets are checked for their end before they are decoded, because some versions
    of OpenCV fill what is missing with grey; label maps and annotated edges have to fit the image.

    Args:
        dataset: The data set or its config, which is then built by `comad.data.dense`; where
            nothing is replaced the headers of all files of an mm* data set are read at once.
        listing: File that takes ``path<TAB>reason`` once per image, from all workers and
            processes; None where nothing is replaced.
        max_bad_share: Share of the data set's images that may be bad before the run stops; one
            image always may, unless the share is 0 (our choice).

    Raises:
        ValueError: a share outside 0 to 1, or a share without a listing; see `build_dataset`.
        UnreadableData: a file that an evaluation would stop at.
    """

    def __init__(
        self,
        dataset: Dataset | dict[str, Any],
        listing: str | Path | None = None,
        max_bad_share: float = 0.0,
    ) -> None:
        if isinstance(max_bad_share, bool) or not 0 <= max_bad_share <= 1:
            raise ValueError(f'max_bad_share={max_bad_share!r}: expected a share from 0 to 1')
        if max_bad_share and listing is None:
            raise ValueError(f'max_bad_share={max_bad_share!r} needs a file to list bad images in')
        built = isinstance(dataset, dict)
        self.dataset = build_dataset(dataset) if built else dataset
        self.listing = None if listing is None else Path(listing)
        self.max_bad_share = max_bad_share
        self.described = hasattr(self.dataset, 'get_data_info')
        if built and self.described and listing is None:
            for index in range(len(self.dataset)):
                self._look_at(index)

    def __getattr__(self, name: str) -> Any:
        # While it is copied or unpickled nothing is there yet.
        if name == 'dataset' or name.startswith('__'):
            raise AttributeError(name)
        return getattr(self.dataset, name)

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> Any:
        """The sample at ``index``, or the next readable one.

        Raises:
            UnreadableData: too many bad images, or the folder of the images is gone.
        """
        size = len(self)
        for step in range(min(MAX_IN_A_ROW, size)):
            candidate = (int(index) + step) % size if step else index
            try:
                if self.described:
                    info = self.dataset.get_data_info(candidate)
                    for path in files_of(info):
                        check_end(path)
                    check_headers(info)
                sample = self.dataset[candidate]
                if self.described:
                    check_labels(sample, len(self.dataset.metainfo.get('classes') or ()))
                return sample
            except (OSError, cv2.error, AssertionError) as error:
                if not _is_about_an_image(error):
                    raise
                self._report(candidate, error)
        raise UnreadableData(f'{step + 1} images in a row are unreadable, see {self.listing}')

    def _look_at(self, index: int) -> None:
        try:
            check_headers(self.dataset.get_data_info(index))
        except OSError as error:
            if not _is_about_an_image(error):
                raise
            self._report(index, error)

    def _report(self, index: int, error: Exception) -> None:
        """List a bad image; raise if it is one too many."""
        place, reason = _place(self.dataset, index), _reason(error)
        named = files_of(self.dataset.get_data_info(index)) if self.described else [place]
        where = '' if any(map(reason.__contains__, named)) else f'{place}: '
        folder = os.path.dirname(place.split('.tar: ')[0])
        if folder and not os.path.isdir(folder):
            raise UnreadableData(
                f'the folder {folder} is gone: is the disk still there? Go on with --resume'
            ) from error
        if self.listing is None or not self.max_bad_share:
            raise UnreadableData(f'{where}{reason}; nothing is left out or replaced') from error
        count, size = list_bad_image(self.listing, place, reason), len(self)
        if count > max(1, int(self.max_bad_share * size)):
            raise UnreadableData(
                f'{count} of {size} training images are unreadable, {100 * count / size:.3g} %; '
                f'the limit is {100 * self.max_bad_share:.3g} % (max_bad_share); '
                f'{self.listing} names them, at last {where}{reason}'
            ) from error


def list_bad_image(listing: Path, place: str, reason: str) -> int:
    """Add an image to the file, unless it is there, and return how many there are."""
    place, reason = _one_field(place), _one_field(reason)
    with open(listing, 'a+', encoding='utf-8') as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        file.seek(0)
        known = {line.split('\t')[0] for line in file.read().split('\n') if line}
        if place not in known:
            file.write(f'{place}\t{reason}\n')
    return len(known | {place})


def check_end(path: str | Path) -> None:
    """Look for the end marker of a JPEG or PNG file; other formats pass.

    Raises:
        OSError: it is missing, so that the file is cut off; or the file cannot be read.
    """
    with open(path, 'rb', buffering=0) as file:
        size = os.fstat(file.fileno()).st_size
        start, tail = file.read(4), os.pread(file.fileno(), TAIL, max(0, size - TAIL))
        if not size:
            raise OSError(f'{path}: the file is empty')
        if start.startswith(JPEG_START):
            # Seldom there is more padding than the tail; then the whole file decides.
            whole = has_end(tail) or has_end(start + file.read())
        else:
            whole = not start.startswith(PNG_START) or PNG_END in tail
    if not whole:
        raise OSError(f'{path}: the image is cut off')


def _place(dataset: Any, index: int) -> str:
    if hasattr(dataset, 'storage'):
        return dataset.storage.place(int(dataset.indices[index]))
    if hasattr(dataset, 'place'):
        return dataset.place(int(index))
    if hasattr(dataset, 'get_data_info'):
        return dataset.get_data_info(index).get('img_path', f'index {index}')
    return f'index {index}'


def _reason(error: Exception) -> str:
    """Of OpenCV's messages, which begin with its version and source file, what was asserted."""
    if isinstance(error, cv2.error) and getattr(error, 'err', None):
        return f'OpenCV cannot process it, which {error.func} answers: {error.err}'
    return first_line(error)


def _is_about_an_image(error: Exception) -> bool:
    if isinstance(error, AssertionError):
        return str(error).startswith('failed to load image')
    return getattr(error, 'errno', None) not in NOT_THE_FILE


def _one_field(text: str) -> str:
    """Without what would break a line or field, and what UTF-8 cannot hold."""
    plain = text.encode('utf-8', 'backslashreplace').decode()
    return plain.translate(dict.fromkeys(map(ord, '\t\n\r'), ' '))
