"""timm's learning rates, set once per epoch, as OFA-KD's training code uses them."""

import math

from mmengine.optim import _ParamScheduler
from mmengine.registry import PARAM_SCHEDULERS


def epoch_rate(
    epoch: int,
    rate: float,
    epochs: int,
    warm_up: int,
    warm_up_rate: float,
    floor: float = 0.0,
    step_every: int | None = None,
) -> float:
    """The learning rate of an epoch, counted from 0.

    A linear warm-up from ``warm_up_rate``, then a cosine over *all* epochs, which the warm-up hides
    the beginning of; with ``step_every`` a tenth after each so many epochs instead.
    """
    if epoch < warm_up:
        return warm_up_rate + epoch * (rate - warm_up_rate) / warm_up
    if step_every:
        return rate * 0.1 ** (epoch // step_every)
    if epoch >= epochs:
        return floor
    return floor + 0.5 * (rate - floor) * (1 + math.cos(math.pi * epoch / epochs))


@PARAM_SCHEDULERS.register_module()
class TimmSchedule(_ParamScheduler):
    """`epoch_rate` for every parameter group.

    Args:
        optimizer: Set by the runner.
        warm_up, warm_up_rate, floor, step_every: See `epoch_rate`.
        options: Of MMEngine's schedulers; ``end``, which the runner sets, is the last epoch.
    """

    def __init__(
        self,
        optimizer: object,
        warm_up: int,
        warm_up_rate: float,
        floor: float = 0.0,
        step_every: int | None = None,
        **options: object,
    ) -> None:
        self.shape = dict(
            warm_up=warm_up,
            warm_up_rate=warm_up_rate,
            floor=floor,
            step_every=step_every,
        )
        super().__init__(optimizer, param_name='lr', **options)

    def _get_value(self) -> list[float]:
        shape = dict(self.shape, epochs=self.end)
        return [epoch_rate(self.last_step, rate, **shape) for rate in self.base_values]
