"""What a pretraining method does once before its first step, and a check on its teachers."""

from typing import Any

from mmengine.hooks import Hook
from mmengine.registry import HOOKS

from backbones.frozen import Frozen
from comad.engine.models import eagerly, unwrapped


@HOOKS.register_module()
class PrepareMethodHook(Hook):
    """Calls ``model.prepare(runner)`` before the first step of a fresh run.

    The method also learns of every step of the optimizer, see ``PretrainMethod.follow``.

    After the training every teacher must still have the digest it was loaded with.

    Raises:
        RuntimeError: a teacher's tensors changed during the run.
    """

    def before_train(self, runner: Any) -> None:
        method = unwrapped(runner.model)
        if runner.iter == 0:
            with eagerly():
                method.prepare(runner)
        method.follow(runner.optim_wrapper.optimizer)
        self._check_teachers(runner, 'before the first step')

    def after_train(self, runner: Any) -> None:
        self._check_teachers(runner, 'during the training')

    def _check_teachers(self, runner: Any, when: str) -> None:
        for module in unwrapped(runner.model).modules():
            if isinstance(module, Frozen) and not module.unchanged():
                raise RuntimeError(f'the {module.card["family"]} teacher changed {when}')
