"""What every supervised distillation is: a student, a frozen teacher or none, labels.

The frame is OFA-KD's (arXiv:2310.19444 and its code): the label loss on the student, plus the terms
of a method. The teacher sees the student's images, mixed and normalised as they are.

Shape letters: B images, K classes, D width, C channels.
"""

from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from typing import Any

import torch
from timm.data import Mixup
from timm.loss import LabelSmoothingCrossEntropy, SoftTargetCrossEntropy
from timm.utils import ModelEmaV3
from torch import Tensor, nn

from backbones.classifier_files import FrozenStages, build_classifier
from backbones.stage_cuts import Stages
from backbones.staged import StagedClassifier
from comad.evaluation.metrics import sample_predictions
from comad.methods.base import PretrainMethod, full_precision

# Summands by name: the weight, and how it is computed where that is not 0.
Terms = dict[str, tuple[float, Callable[[], Tensor]]]


class Step:
    """What the terms of one step may read; the teacher runs when it is first asked for.

    Attributes:
        images: (B, 3, H, W), normalised and mixed.
        targets: Labels (B,) long, or shares (B, K) of the classes.
        index: (B,) numbers of the images, None where the data do not tell them.
        student: Stages and logits of the student.
    """

    def __init__(
        self,
        images: Tensor,
        targets: Tensor,
        index: Tensor | None,
        student: Stages,
        teacher: FrozenStages | None,
    ) -> None:
        self.images, self.targets, self.index = images, targets, index
        self.student, self._teacher = student, teacher
        kind = images.device.type
        self._autocast = kind, torch.get_autocast_dtype(kind), torch.is_autocast_enabled(kind)

    @cached_property
    def teacher(self) -> Stages:
        """Stages and logits of the teacher, without a graph."""
        with self.precision():
            return self._teacher.stages(self.images)

    def precision(self) -> torch.autocast:
        """The step's precision, for networks that run inside of a term, which is in float32."""
        kind, dtype, enabled = self._autocast
        return torch.autocast(kind, dtype, enabled)

    @property
    def labels(self) -> Tensor:
        """(B,) long; of a mixed image the class with the largest share."""
        return self.targets if self.targets.ndim == 1 else self.targets.argmax(1)


class Distiller(PretrainMethod):
    """A student that learns from labels and, in most methods, from a frozen classifier.

    A method implements `terms`. A term of weight 0 is not computed, and what only it would need
    is not built; a teacher that no term asks does not run.

    With ``ema_decay`` the student that is evaluated and handed on is the average of the trained
    one over all steps, batch norms' statistics included; the trained one is evaluated beside it.

    Args:
        backbone: Config of the student, a `StagedClassifier`.
        teachers: One, arguments of `build_classifier`: ``arch``, ``checkpoint``; ``family`` is
            ``classifier``.
        num_classes: Of the data.
        mixup: Arguments of `timm.data.Mixup`; None for plain labels.
        label_smoothing: Of the targets, with or without mixup.
        label_weight: Weight of the label loss on the student.
        ema_decay: Share of the average that each step keeps; None: no average.
        data_preprocessor: Config of the preprocessor.

    Raises:
        ValueError: not exactly one teacher, another smoothing than 0 to 1, or another decay.
    """

    needs = 'logits'
    reads_labels = True
    teachers_wanted = 1

    def __init__(
        self,
        backbone: dict[str, Any],
        teachers: Sequence[Mapping[str, Any]] = (),
        num_classes: int = 100,
        mixup: Mapping[str, Any] | None = None,
        label_smoothing: float = 0.1,
        label_weight: float = 1.0,
        ema_decay: float | None = None,
        data_preprocessor: dict[str, Any] | None = None,
    ) -> None:
        name = type(self).__name__
        if len(teachers) != self.teachers_wanted:
            raise ValueError(f'{len(teachers)} teachers: {name} takes {self.teachers_wanted}')
        if not 0 <= label_smoothing < 1:
            raise ValueError(f'label_smoothing={label_smoothing}: expected 0 to 1')
        if ema_decay is not None and not 0 < ema_decay < 1:
            raise ValueError(f'ema_decay={ema_decay}: expected between 0 and 1, or None')
        super().__init__({**backbone, 'num_classes': num_classes}, data_preprocessor)
        self.backbone: StagedClassifier
        self.teacher: FrozenStages | None = None
        for options in teachers:
            options = {k: v for k, v in options.items() if k != 'family'}
            self.teacher = build_classifier(num_classes=num_classes, **options)
            self.teacher_cards = [self.teacher.card]
        self.num_classes, self.label_weight = num_classes, label_weight
        self.ema: ModelEmaV3 | None = None
        if ema_decay is not None:
            self.ema = ModelEmaV3(self.backbone, ema_decay).requires_grad_(False)
        self.mixup: Mixup | None = None
        self.criterion: nn.Module = LabelSmoothingCrossEntropy(label_smoothing)
        if mixup is not None:
            self.mixup = Mixup(**mixup, label_smoothing=label_smoothing, num_classes=num_classes)
            self.criterion = SoftTargetCrossEntropy()

    @property
    def exported(self) -> StagedClassifier:
        """The student, or its average."""
        return self.backbone if self.ema is None else self.ema.module

    def prepare(self, runner: Any) -> None:
        """Begin the average with the weights that the training begins with."""
        if self.ema is not None:
            self.ema.set(self.backbone)

    def after_step(self) -> None:
        """Let the average follow."""
        if self.ema is not None:
            self.ema.update(self.backbone)

    @abstractmethod
    def terms(self, step: Step) -> Terms:
        """The method's summands beside the label loss."""

    def forward(
        self,
        inputs: Tensor,
        labels: Tensor | None = None,
        index: Sequence[int] | Tensor | None = None,
        mode: str = 'loss',
    ) -> Any:
        """As `PretrainMethod.forward`; ``index`` are the numbers of the images."""
        if mode != 'loss':
            return super().forward(inputs, labels, mode)
        if index is not None:
            index = torch.as_tensor(index).to(inputs.device, non_blocking=True)
        return self.loss(inputs, labels, index)

    def loss(
        self, inputs: Tensor, labels: Tensor, index: Tensor | None = None
    ) -> dict[str, Tensor]:
        """The label loss and the method's terms for images (B, 3, H, W) and labels (B,)."""
        images, targets = (inputs, labels) if self.mixup is None else self.mixup(inputs, labels)
        step = Step(images, targets, index, self.backbone.stages(images), self.teacher)
        terms: Terms = {
            'label': (self.label_weight, lambda: self.label_loss(step.student.logits, targets))
        }
        terms |= self.terms(step)
        with full_precision(images):
            computed = {name: (weight, call()) for name, (weight, call) in terms.items() if weight}
        return {f'loss_{name}': weight * value for name, (weight, value) in computed.items()}

    def label_loss(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Cross entropy with smoothed or mixed labels."""
        return self.criterion(logits.float(), targets)

    def predict(self, inputs: Tensor, labels: Tensor | None = None) -> list[dict[str, Any]]:
        """Class scores of the student, for `Accuracy`."""
        return sample_predictions(self.scores(inputs, self.backbone.logits(inputs)), labels)

    def scores(self, inputs: Tensor, logits: Tensor) -> dict[str, Tensor]:
        """By name, the student's, given the logits of the trained one."""
        if self.ema is None:
            return {'student': logits}
        return {'student': self.exported.logits(inputs), 'trained': logits}
