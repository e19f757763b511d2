"""`MultiScaleTestHook`: a test that averages predictions over scales and flips."""

from typing import Any

from mmengine.hooks import Hook
from mmengine.registry import HOOKS, MODELS

from comad.engine.models import unwrapped


@HOOKS.register_module()
class MultiScaleTestHook(Hook):
    """Puts MMEngine's test-time augmentation around the tested model.

    It is done after the checkpoint has been loaded, so loading stays complete or fails, and around
    the bare model: mmseg's SegTTAModel reads attributes that DistributedDataParallel hides.

    Args:
        model: Config of a BaseTTAModel without its ``module``.
    """

    def __init__(self, model: dict[str, Any]) -> None:
        self.model = dict(model)

    def before_test(self, runner: Any) -> None:
        runner.model = MODELS.build({**self.model, 'module': unwrapped(runner.model)})
