"""RKD: distances and angles between the images of a batch (Park et al., arXiv:1904.05068)."""

from typing import Any

import torch
import torch.nn.functional as F
from mmengine.registry import MODELS
from torch import Tensor

from comad.distill.base import Distiller, Step, Terms

EPS = 1e-12


@MODELS.register_module()
class RKD(Distiller):
    """Relations of penultimate features; angles take memory B^3.

    Args:
        distance_weight, angle_weight: Weights of the two terms (OFA-KD: 25, 50).
        options: See `Distiller`.
    """

    def __init__(
        self,
        backbone: dict[str, Any],
        distance_weight: float = 25.0,
        angle_weight: float = 50.0,
        **options: Any,
    ) -> None:
        super().__init__(backbone, **options)
        self.distance_weight, self.angle_weight = distance_weight, angle_weight

    def terms(self, step: Step) -> Terms:
        def compared(relation: Any) -> Any:
            ours, theirs = step.student.penultimate, step.teacher.penultimate
            return F.smooth_l1_loss(relation(ours.float()), relation(theirs.float()))

        return {
            'distance': (self.distance_weight, lambda: compared(distances)),
            'angle': (self.angle_weight, lambda: compared(angles)),
        }


def distances(x: Tensor) -> Tensor:
    """Euclidean distances (B, B) of features (B, D), divided by the mean of the positive ones."""
    squares = x.square().sum(1)
    found = (squares[:, None] + squares[None] - 2 * x @ x.T).clamp(min=EPS).sqrt()
    found = found * (1 - torch.eye(len(x), device=x.device))
    return found / found[found > 0].mean()


def angles(x: Tensor) -> Tensor:
    """Cosines (B, B, B) of the angle at each image between any two others."""
    directions = F.normalize(x[None] - x[:, None], dim=2)
    return directions @ directions.mT
