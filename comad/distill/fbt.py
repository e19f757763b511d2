"""FBT: a network fused from student and teacher stands between them (arXiv:2410.12342).

1. Student and teacher see the images.
2. The fusion takes stages 1 to 3 of one, a `LocalToGlobal` module, and stage 4 with the classifier
   of the other. A CNN's front goes before attention or an MLP: the student's, or, where the teacher
   is the CNN, the teacher's. It shares their weights; only the module between is its own.
3. Teacher t, fusion f and student s teach in three pairs, L(t, s) + L(t, f) + L(f, s). Each
   compares pooled features by InfoNCE and logits by OFA-KD's loss.

What trains the fusion is L(t, f) and, unless it is detached, L(f, s). Read of the paper were its
abstract and part of a table; the scheme is from a third party's note. *Ours* are: the label loss
beside it, the rule for pairs without a CNN, the module's layers, and every default of a field
below that says so.
"""

import math
from typing import Any

import torch
import torch.nn.functional as F
from mmengine.registry import MODELS
from torch import Tensor, nn

from backbones.stage_cuts import Tail
from backbones.staged_table import CNN
from comad.distill.base import Distiller, Step, Terms
from comad.distill.fusion import LocalToGlobal, with_class_token
from comad.distill.ofa import ofa_loss
from comad.evaluation.metrics import sample_predictions

FRONTS = ('auto', 'student', 'teacher')
PAIRS = ('teacher_student', 'teacher_fusion', 'fusion_student')
MOST = 100.0


@MODELS.register_module()
class FBT(Distiller):
    """Fuse before transfer.

    Args:
        front: Whose stages 1 to 3 the fusion begins with. ``auto``: the student's, but the
            teacher's where it is a CNN and the student none. Without any CNN the rule is ours.
        pairs: Weights of L(t, s), L(t, f) and L(f, s): the paper adds them up.
        feature_weight, logit_weight: Of InfoNCE and of OFA-KD's loss in every pair; ours, a sum.
        eps: Of OFA-KD's loss.
        temperature: Of OFA-KD's loss; ours.
        detach_fusion: Whether L(f, s) leaves the fusion alone; ours: it does not, since the paper's
            ablation without L(t, f) collapses, which one trial showed only so.
        fusion_label_weight: Of a label loss on the fusion; ours: none.
        width: Of the embedding that InfoNCE compares in, one linear map per network; ours.
        feature_temperature: InfoNCE's at the start, learned, kept above 1 / 100; ours, CLIP's.
        block, window: Of the module between, see `LocalToGlobal`; ours.
        options: See `Distiller`.

    Raises:
        ValueError: an unknown front, or other than three pairs.
    """

    method_version = '1'

    def __init__(
        self,
        backbone: dict[str, Any],
        front: str = 'auto',
        pairs: tuple[float, float, float] = (1.0, 1.0, 1.0),
        feature_weight: float = 1.0,
        logit_weight: float = 1.0,
        eps: float = 1.0,
        temperature: float = 1.0,
        detach_fusion: bool = False,
        fusion_label_weight: float = 0.0,
        width: int = 128,
        feature_temperature: float = 0.07,
        block: bool = True,
        window: int = 7,
        **options: Any,
    ) -> None:
        super().__init__(backbone, **options)
        if front not in FRONTS:
            raise ValueError(f'front={front!r}: expected one of {", ".join(FRONTS)}')
        if len(pairs) != len(PAIRS):
            raise ValueError(f'pairs={pairs}: expected weights of {", ".join(PAIRS)}')
        self.weights = dict(zip(PAIRS, pairs, strict=True))
        self.feature_weight, self.logit_weight = feature_weight, logit_weight
        self.eps, self.temperature = eps, temperature
        self.detach_fusion, self.fusion_label_weight = detach_fusion, fusion_label_weight
        taught_by_cnn = self.teacher.family == CNN and self.backbone.family != CNN
        self.teacher_front = taught_by_cnn if front == 'auto' else front == 'teacher'
        compares = feature_weight or logit_weight
        self.fuses = bool((compares and any(pairs[1:])) or fusion_label_weight)
        if self.fuses:
            ends = (
                (self.teacher, self.backbone)
                if self.teacher_front
                else (self.backbone, self.teacher)
            )
            self.between = LocalToGlobal(*ends, block, window)
        widths = {
            'student': self.backbone.embed_dim,
            'teacher': self.teacher.embed_dim,
            'fusion': (self.backbone if self.teacher_front else self.teacher).embed_dim,
        }
        compared = {
            n for p, w in self.weights.items() if w and feature_weight for n in p.split('_')
        }
        self.embed = nn.ModuleDict(
            {name: nn.Linear(size, width) for name, size in widths.items() if name in compared}
        )
        if compared:
            # A vector of one: weight decay leaves vectors alone.
            self.scale = nn.Parameter(torch.full((1,), -math.log(feature_temperature)))

    def terms(self, step: Step) -> Terms:
        networks: dict[str, Any] = {'student': step.student}
        if self.fuses:
            networks['fusion'] = self.fuse(step)
        terms: Terms = {}
        for pair, weight in self.weights.items():
            above, below = pair.split('_')
            terms[f'{pair}_feature'] = (
                weight * self.feature_weight,
                lambda a=above, b=below: self.compare_features(step, networks, a, b),
            )
            terms[f'{pair}_logit'] = (
                weight * self.logit_weight,
                lambda a=above, b=below: self.compare_logits(step, networks, a, b),
            )
        label = self.fusion_label_weight
        if label:
            terms['fusion_label'] = (
                label,
                lambda: self.label_loss(networks['fusion'].logits, step.targets),
            )
        return terms

    def fuse(self, step: Step) -> Tail:
        """Stage 4, pooled feature and logits of the fusion."""
        if self.teacher_front:
            front, tail = step.teacher.stages[2], self.backbone
        else:
            front, tail = step.student.stages[2], self.teacher
        return tail.tail(with_class_token(self.between(front), tail.class_token()))

    def compare_features(
        self, step: Step, networks: dict[str, Any], above: str, below: str
    ) -> Tensor:
        """InfoNCE of two networks' pooled features, positives from the same image."""
        ends = []
        for name in (above, below):
            pooled = self._of(step, networks, name, above).pooled.float()
            ends.append(F.normalize(self.embed[name](pooled), dim=1))
        return info_nce(*ends, self.scale.exp().clamp(max=MOST))

    def compare_logits(
        self, step: Step, networks: dict[str, Any], above: str, below: str
    ) -> Tensor:
        """OFA-KD's loss, the upper network as the teacher."""
        theirs = self._of(step, networks, above, above).logits
        ours = networks[below].logits
        return ofa_loss(ours, theirs, step.labels, self.eps, self.temperature)

    def _of(self, step: Step, networks: dict[str, Any], name: str, above: str) -> Any:
        if name == 'teacher':
            return step.teacher
        found = networks[name]
        detached = self.detach_fusion and name == above == 'fusion'
        return (
            found._replace(pooled=found.pooled.detach(), logits=found.logits.detach())
            if detached
            else found
        )

    def predict(self, inputs: Tensor, labels: Tensor | None = None) -> list[dict[str, Any]]:
        """Class scores of the student, and of the fusion beside it."""
        step = Step(inputs, labels, None, self.backbone.stages(inputs), self.teacher)
        scores = self.scores(inputs, step.student.logits)
        if self.fuses:
            scores['fusion'] = self.fuse(step).logits
        return sample_predictions(scores, labels)


def info_nce(first: Tensor, second: Tensor, scale: Tensor) -> Tensor:
    """Cross entropy of (B, B) cosines x scale with their diagonal, the mean of both directions.

    Args:
        first, second: Unit features (B, D) of the same images.
    """
    scores = scale * first @ second.T
    own = torch.arange(len(scores), device=scores.device)
    return (F.cross_entropy(scores, own) + F.cross_entropy(scores.T, own)) / 2
