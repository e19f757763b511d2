"""DKD: KD in two parts, target class and all others (Zhao et al., arXiv:2203.08679).

OFA-KD's released class stops with an AttributeError before its first step; the formula is that of
its function of the same name.
"""

from typing import Any

import torch
import torch.nn.functional as F
from mmengine.registry import MODELS
from torch import Tensor

from comad.distill.base import Distiller, Step, Terms

# What is taken off the target's logit, so that the others share all of the probability.
FAR = 1000.0


@MODELS.register_module()
class DKD(Distiller):
    """Decoupled distillation of the logits.

    Args:
        kd_weight: Weight of the term.
        alpha, beta: Weights of target and non-target part (OFA-KD: 1, 2).
        temperature: T (OFA-KD: 1).
        options: See `Distiller`.
    """

    def __init__(
        self,
        backbone: dict[str, Any],
        kd_weight: float = 1.0,
        alpha: float = 1.0,
        beta: float = 2.0,
        temperature: float = 1.0,
        **options: Any,
    ) -> None:
        super().__init__(backbone, **options)
        self.kd_weight, self.alpha, self.beta = kd_weight, alpha, beta
        self.temperature = temperature

    def terms(self, step: Step) -> Terms:
        def dkd() -> Tensor:
            logits = step.student.logits, step.teacher.logits
            return dkd_loss(*logits, step.labels, self.alpha, self.beta, self.temperature)

        return {'dkd': (self.kd_weight, dkd)}


def dkd_loss(
    student: Tensor,
    teacher: Tensor,
    labels: Tensor,
    alpha: float = 1.0,
    beta: float = 2.0,
    temperature: float = 1.0,
) -> Tensor:
    """(alpha TCKD + beta NCKD) T^2, means over images, of logits (B, K) and labels (B,)."""
    ours, theirs = student.float() / temperature, teacher.float() / temperature
    target = F.one_hot(labels, ours.shape[1])

    def binary(logits: Tensor) -> Tensor:
        own = (logits.softmax(1) * target).sum(1)
        rest = (logits.softmax(1) * (1 - target)).sum(1)
        return torch.stack([own, rest], dim=1)

    tckd = F.kl_div(binary(ours).log(), binary(theirs), reduction='batchmean')
    others = (ours - FAR * target).log_softmax(1), (theirs - FAR * target).softmax(1)
    nckd = F.kl_div(*others, reduction='batchmean')
    return temperature**2 * (alpha * tckd + beta * nckd)
