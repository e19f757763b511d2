"""The model inside a wrapper."""

from typing import Any

from mmengine.model import BaseTTAModel, is_model_wrapper


def unwrapped(model: Any) -> Any:
    """The model inside a DistributedDataParallel or test-time augmentation wrapper."""
    while is_model_wrapper(model) or isinstance(model, BaseTTAModel):
        model = model.module
    return model
