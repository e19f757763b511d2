"""`WarmUpLR`: a linear warm-up that starts and ends where the official codes' do."""

from typing import Any

from mmengine.optim import LinearLR
from mmengine.registry import PARAM_SCHEDULERS


@PARAM_SCHEDULERS.register_module()
class WarmUpLR(LinearLR):
    """Learning rate x (start + (1 - start) t / T) in step t of a warm-up of T steps.

    MMEngine's LinearLR divides by T - 1, so that the full rate comes one step early, and cannot
    start at 0. The codes of MAE, MoCo v3, MAE-Lite, Detectron2 and mmcv 1 divide by T: the step
    after the warm-up is the first at the full rate. Those of DINO, iBOT and BEiT take
    ``numpy.linspace``, which divides by T - 1.

    It multiplies: a schedule that runs at the same time keeps its course, unless this one starts
    at 0.

    Args:
        optimizer: As of LinearLR.
        end: First step, or with ``convert_to_iter_based`` epoch, after the warm-up.
        start_factor: Share of the rate in the first step, from 0 to 1.
        linspace: Reach the full rate in the last step of the warm-up, not in the first after it.
        options: As of LinearLR.
    """

    def __init__(
        self,
        optimizer: Any,
        *,
        end: int,
        start_factor: float = 0.0,
        linspace: bool = False,
        **options: Any,
    ) -> None:
        end = end if linspace else end + 1
        super().__init__(optimizer, start_factor=start_factor, end=end, **options)

    def _get_value(self) -> list[float]:
        """LinearLR's product, which has no second factor after 0."""
        if self.start_factor == 0 and self.last_step == 1:
            return [value / self.total_iters for value in self.base_values]
        return super()._get_value()
