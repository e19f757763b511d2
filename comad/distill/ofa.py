"""OFA-KD: every stage of the student predicts classes, and learns the teacher's (arXiv:2310.19444).

The loss raises the teacher's probability of the target class: with m = 1 there and 0 elsewhere,
-sum over classes of ((p_t + m)^eps - m) log p_s. At eps 1 it is the cross entropy with the
teacher's probabilities.
"""

from typing import Any

import torch.nn.functional as F
from mmengine.registry import MODELS
from torch import Tensor, nn

from comad.distill.base import Distiller, Step, Terms
from comad.distill.exits import FINAL_GRID, build_exit


@MODELS.register_module()
class OFA(Distiller):
    """The loss on the student's logits and on those of four exits.

    Args:
        kd_weight: Weight on the student's own logits (official 1).
        ofa_weight: Weight on the sum over exits: 1 is the code's default, and 0.1 what CIFAR-100's
            CNN students were trained with (issues 14 and 32 of its repository).
        eps: Exponent of the target class, one for all five.
        temperature: Of all logits (official 1); there is no factor T^2.
        exits: Stages with an exit.
        final_grid: See `build_exit`.
        options: See `Distiller`.
    """

    def __init__(
        self,
        backbone: dict[str, Any],
        kd_weight: float = 1.0,
        ofa_weight: float = 1.0,
        eps: float = 1.0,
        temperature: float = 1.0,
        exits: tuple[int, ...] = (1, 2, 3, 4),
        final_grid: int = FINAL_GRID,
        **options: Any,
    ) -> None:
        super().__init__(backbone, **options)
        if wrong := [stage for stage in exits if stage not in (1, 2, 3, 4)]:
            raise ValueError(f'exits={exits}: {wrong[0]} is no stage; expected some of 1, 2, 3, 4')
        self.kd_weight, self.ofa_weight = kd_weight, ofa_weight
        self.eps, self.temperature = eps, temperature
        self.exits = nn.ModuleDict()
        for stage in exits if ofa_weight else ():
            width = self.teacher.embed_dim
            made = build_exit(stage, self.backbone, width, self.num_classes, final_grid)
            self.exits[str(stage)] = made

    def terms(self, step: Step) -> Terms:
        def against_teacher(logits: Tensor) -> Tensor:
            theirs = step.teacher.logits
            return ofa_loss(logits, theirs, step.labels, self.eps, self.temperature)

        def exits() -> Tensor:
            with step.precision():
                stages = step.student.stages
                found = [made(stages[int(stage) - 1]) for stage, made in self.exits.items()]
            return sum(map(against_teacher, found))

        return {
            'kd': (self.kd_weight, lambda: against_teacher(step.student.logits)),
            'ofa': (self.ofa_weight, exits),
        }


def ofa_loss(
    student: Tensor,
    teacher: Tensor,
    labels: Tensor,
    eps: float = 1.0,
    temperature: float = 1.0,
) -> Tensor:
    """The mean over images, of logits (B, K) and labels (B,).

    The logarithm is that of the softmax, as in the official code: where a probability vanishes in
    float32 the loss is infinite, and training stops with a message instead of going on.
    """
    ours = (student.float() / temperature).softmax(1)
    theirs = (teacher.float() / temperature).softmax(1)
    target = F.one_hot(labels, ours.shape[1])
    wanted = (theirs + target) ** eps - target
    return -(wanted * ours.log()).sum(1).mean()
