"""FitNet: the student's stages imitate the teacher's (Romero et al., arXiv:1412.6550).

OFA-KD's code compares CNNs alone: a 1x1 convolution without bias brings each stage of the student
to the teacher's width, and mean squared errors are added. That is what runs between CNNs here. Its
table also reports other pairs, whose code was not released: for these, *ours*, tokens become maps,
the map with the finer grid has its places folded into channels until the grids agree, and one 1x1
convolution does the rest.
"""

from typing import Any

import torch.nn.functional as F
from mmengine.registry import MODELS
from torch import Tensor, nn

from comad.distill.base import Distiller, Step, Terms
from comad.distill.exits import draw_weights
from comad.distill.fusion import as_map


@MODELS.register_module()
class FitNet(Distiller):
    """Mean squared errors of stages.

    Args:
        feature_weight: Weight of the sum over stages (OFA-KD: 1).
        compared: Stages that are compared (OFA-KD: all).
        options: See `Distiller`.

    Raises:
        ValueError: grids of which neither is a multiple of the other.
    """

    def __init__(
        self,
        backbone: dict[str, Any],
        feature_weight: float = 1.0,
        compared: tuple[int, ...] = (1, 2, 3, 4),
        **options: Any,
    ) -> None:
        super().__init__(backbone, **options)
        self.feature_weight, self.compared = feature_weight, tuple(compared)
        self.maps = nn.ModuleDict()
        for stage in self.compared if feature_weight else ():
            ours, theirs = (
                (net.widths[stage - 1], net.grids[stage - 1])
                for net in (self.backbone, self.teacher)
            )
            fine, coarse = max(ours[1], theirs[1]), min(ours[1], theirs[1])
            if fine % coarse:
                raise ValueError(f'stage {stage}: grids {ours[1]} and {theirs[1]} do not nest')
            folds = (fine // coarse) ** 2
            width = ours[0] * (folds if ours[1] == fine else 1)
            wanted = theirs[0] * (folds if theirs[1] == fine else 1)
            self.maps[str(stage)] = nn.Conv2d(width, wanted, 1, bias=False)
        self.maps.apply(draw_weights)

    def terms(self, step: Step) -> Terms:
        def features() -> Tensor:
            total = 0.0
            for stage, convolution in self.maps.items():
                ours = as_map(step.student.stages[int(stage) - 1], self.backbone)
                theirs = as_map(step.teacher.stages[int(stage) - 1], self.teacher)
                edge = min(ours.shape[-1], theirs.shape[-1])
                ours, theirs = (_fold(x.float(), edge) for x in (ours, theirs))
                total = total + F.mse_loss(convolution(ours), theirs)
            return total

        return {'feature': (self.feature_weight, features)}


def _fold(x: Tensor, edge: int) -> Tensor:
    """A map (B, C, H, W) as (B, C n, edge, edge), n places each."""
    return F.pixel_unshuffle(x, x.shape[-1] // edge)
