"""KD: the teacher's class probabilities at a temperature (Hinton et al., arXiv:1503.02531)."""

from typing import Any

import torch.nn.functional as F
from mmengine.registry import MODELS
from torch import Tensor

from comad.distill.base import Distiller, Step, Terms


@MODELS.register_module()
class KD(Distiller):
    """Kullback-Leibler divergence of the logits.

    Args:
        kd_weight: Weight of the term (OFA-KD: 1).
        temperature: T (OFA-KD: 1).
        options: See `Distiller`.
    """

    def __init__(
        self,
        backbone: dict[str, Any],
        kd_weight: float = 1.0,
        temperature: float = 1.0,
        **options: Any,
    ) -> None:
        super().__init__(backbone, **options)
        self.kd_weight, self.temperature = kd_weight, temperature

    def terms(self, step: Step) -> Terms:
        def kd() -> Tensor:
            return kd_loss(step.student.logits, step.teacher.logits, self.temperature)

        return {'kd': (self.kd_weight, kd)}


def kd_loss(student: Tensor, teacher: Tensor, temperature: float = 1.0) -> Tensor:
    """T^2 KL(p_t, p_s), the mean over images, of logits (B, K)."""
    ours = F.log_softmax(student.float() / temperature, dim=1)
    theirs = F.log_softmax(teacher.float() / temperature, dim=1)
    divergence = F.kl_div(ours, theirs, reduction='batchmean', log_target=True)
    return temperature**2 * divergence
