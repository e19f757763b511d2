"""The images of a training set as an evaluation sees them."""

import copy
from typing import Any

from comad.data.views import build_views


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
