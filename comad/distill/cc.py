"""CC, as OFA-KD's tables have it: products of neighbouring errors, no kernel of correlations.

Peng et al. (arXiv:1904.01802) compare kernel matrices of a batch; the function that OFA-KD calls
"correlation" (from CRD's collection) is another one, and it is what its table reports.
"""

from typing import Any

from mmengine.registry import MODELS
from torch import Tensor, nn

from comad.distill.base import Distiller, Step, Terms


@MODELS.register_module()
class CC(Distiller):
    """Both penultimate features are embedded linearly, and their errors correlated.

    Args:
        weight: Weight of the term (OFA-KD: 0.02).
        width: Of the embedding (OFA-KD: 128).
        options: See `Distiller`.
    """

    def __init__(
        self, backbone: dict[str, Any], weight: float = 0.02, width: int = 128, **options: Any
    ) -> None:
        super().__init__(backbone, **options)
        self.weight = weight
        if weight:
            self.embed_student = nn.Linear(self.backbone.embed_dim, width)
            self.embed_teacher = nn.Linear(self.teacher.embed_dim, width)

    def terms(self, step: Step) -> Terms:
        def correlation() -> Tensor:
            ours = self.embed_student(step.student.penultimate.float())
            theirs = self.embed_teacher(step.teacher.penultimate.float())
            return correlation_loss(ours, theirs)

        return {'correlation': (self.weight, correlation)}


def correlation_loss(student: Tensor, teacher: Tensor) -> Tensor:
    """Mean over i < B of sum(|s_i - t_i| |s_i+1 - t_i+1|) of embedded features (B, D)."""
    error = (student - teacher).abs()
    return (error[:-1] * error[1:]).sum(1).mean()
