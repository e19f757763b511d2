"""Plain training: labels alone. The student trained alone, and what makes a teacher."""

from typing import Any

from mmengine.registry import MODELS

from backbones.classifier_files import load_classifier
from backbones.teachers import is_untrained
from comad.distill.base import Distiller, Step, Terms


@MODELS.register_module()
class Plain(Distiller):
    """Cross entropy and nothing else.

    Args:
        start: A weight file whose body the network begins with, its classifier left out, as
            CIFAR-100's teachers are fine-tuned from ImageNet; None: random weights.
        options: See `Distiller`.
    """

    teachers_wanted = 0

    def __init__(self, backbone: dict[str, Any], start: str | None = None, **options: Any) -> None:
        super().__init__(backbone, **options)
        if start is not None and not is_untrained():
            load_classifier(self.backbone, start, new_head=True)

    def terms(self, step: Step) -> Terms:
        return {}
