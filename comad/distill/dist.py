"""DIST: correlations between and within classes instead of equal values (arXiv:2205.10536)."""

from typing import Any

from mmengine.registry import MODELS
from torch import Tensor

from comad.distill.base import Distiller, Step, Terms

EPS = 1e-8


@MODELS.register_module()
class DIST(Distiller):
    """Pearson correlations of the class probabilities, per image and per class.

    Args:
        kd_weight: Weight of the term.
        beta, gamma: Weights between classes and within them (OFA-KD: 1, 1).
        temperature: tau (OFA-KD: 1).
        options: See `Distiller`.
    """

    def __init__(
        self,
        backbone: dict[str, Any],
        kd_weight: float = 1.0,
        beta: float = 1.0,
        gamma: float = 1.0,
        temperature: float = 1.0,
        **options: Any,
    ) -> None:
        super().__init__(backbone, **options)
        self.kd_weight, self.beta, self.gamma = kd_weight, beta, gamma
        self.temperature = temperature

    def terms(self, step: Step) -> Terms:
        def dist() -> Tensor:
            logits = step.student.logits, step.teacher.logits
            return dist_loss(*logits, self.beta, self.gamma, self.temperature)

        return {'dist': (self.kd_weight, dist)}


def dist_loss(
    student: Tensor,
    teacher: Tensor,
    beta: float = 1.0,
    gamma: float = 1.0,
    temperature: float = 1.0,
) -> Tensor:
    """tau^2 (beta (1 - mean correlation of images) + gamma (1 - that of classes)) of logits."""
    ours = (student.float() / temperature).softmax(1)
    theirs = (teacher.float() / temperature).softmax(1)
    between = 1 - correlation(ours, theirs).mean()
    within = 1 - correlation(ours.T, theirs.T).mean()
    return temperature**2 * (beta * between + gamma * within)


def correlation(a: Tensor, b: Tensor) -> Tensor:
    """Pearson's correlation of each row of (N, M) with the same row of another."""
    a, b = (x - x.mean(1, keepdim=True) for x in (a, b))
    return (a * b).sum(1) / (a.norm(dim=1) * b.norm(dim=1) + EPS)
