"""The model inside a wrapper for several processes."""

from typing import Any

from mmengine.model import is_model_wrapper


def unwrapped(model: Any) -> Any:
    """The model inside a DistributedDataParallel wrapper."""
    return model.module if is_model_wrapper(model) else model
