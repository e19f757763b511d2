"""CRD: contrast with a memory of all training images (Tian et al., arXiv:1910.10699).

As in OFA-KD's code, which is the authors': the memories begin uniform, the constants Z are set in
the first step, negatives are drawn from other classes, and each process keeps its own memory.
"""

import math
from typing import Any

import torch
import torch.nn.functional as F
from mmengine.registry import MODELS
from torch import Tensor, nn

from comad.distill.base import Distiller, Step, Terms

EPS = 1e-7
MEMORIES = ('student_memory', 'teacher_memory')
# Images before the data are known: a step is counted and timed without any.
UNKNOWN = 50_000


@MODELS.register_module()
class CRD(Distiller):
    """Student and teacher features of one image against those of others.

    The memories are as long as the training data, whose items must tell their ``index``.

    Args:
        crd_weight: Weight of the term (OFA-KD: 1).
        negatives: K per image (OFA-KD: 16384).
        temperature: Of the scores (OFA-KD: 0.07).
        momentum: Share of a memory's entry that is kept (OFA-KD: 0.5).
        width: Of the embedding (OFA-KD: 128).
        options: See `Distiller`.
    """

    def __init__(
        self,
        backbone: dict[str, Any],
        crd_weight: float = 1.0,
        negatives: int = 16_384,
        temperature: float = 0.07,
        momentum: float = 0.5,
        width: int = 128,
        **options: Any,
    ) -> None:
        super().__init__(backbone, **options)
        self.crd_weight, self.negatives = crd_weight, negatives
        if not crd_weight:
            return
        self.embed_student = nn.Linear(self.backbone.embed_dim, width)
        self.embed_teacher = nn.Linear(self.teacher.embed_dim, width)
        self.contrast = Contrast(UNKNOWN, width, temperature, momentum)
        # Images sorted by class, and where each class begins: what negatives are drawn from.
        self.register_buffer('order', torch.arange(UNKNOWN))
        self.register_buffer('begins', torch.zeros(self.num_classes + 1, dtype=torch.long))

    def prepare(self, runner: Any) -> None:
        """Begin the memories, and read the labels of all training images."""
        super().prepare(runner)
        if self.crd_weight:
            dataset = runner.train_dataloader.dataset
            self.remember(torch.as_tensor(getattr(dataset, 'labels', ())))

    def remember(self, labels: Tensor) -> None:
        """Begin memories of as many images as there are labels (N,), and note their classes.

        Raises:
            ValueError: no labels, or of one class alone, which has no negatives.
        """
        if len(labels.unique()) < 2:
            raise ValueError(
                f'CRD: the training data tell {len(labels):,} labels of {len(labels.unique())} '
                'classes: expected a data set with labels of several, such as CIFAR100'
            )
        counts = torch.bincount(labels, minlength=self.num_classes)
        self.order = labels.argsort(stable=True).to(self.begins.device)
        self.begins[1:].copy_(counts.cumsum(0))
        self.contrast.begin(len(labels))

    def _load_from_state_dict(
        self, state_dict: dict[str, Tensor], prefix: str, *others: Any
    ) -> None:
        # A run that goes on has memories of its data before it has the data.
        images = len(state_dict.get(f'{prefix}order', ()))
        if self.crd_weight and images not in (0, len(self.order)):
            self.order = self.order.new_empty(images)
            self.contrast.begin(images)
        super()._load_from_state_dict(state_dict, prefix, *others)

    def terms(self, step: Step) -> Terms:
        def crd() -> Tensor:
            if step.index is None:
                raise ValueError(
                    'CRD: the data do not tell the index of an image, as CIFAR100 and '
                    'ImageNetFolder do with with_index=True'
                )
            ours = F.normalize(self.embed_student(step.student.penultimate.float()), dim=1)
            theirs = F.normalize(self.embed_teacher(step.teacher.penultimate.float()), dim=1)
            return self.contrast(ours, theirs, step.index, self.draw(step.labels))

        return {'crd': (self.crd_weight, crd)}

    def draw(self, labels: Tensor) -> Tensor:
        """(B, K) images of other classes than the labels (B,), each as likely."""
        begin, end = self.begins[labels][:, None], self.begins[labels + 1][:, None]
        others = len(self.order) - (end - begin)
        share = torch.rand(len(labels), self.negatives, device=labels.device, dtype=torch.double)
        place = (share * others).long()
        return self.order[place + (place >= begin) * (end - begin)]


class Contrast(nn.Module):
    """Two memories (N, D) and the loss between them and a batch.

    Args:
        num_images: N.
        width: D.
        temperature, momentum: See `CRD`.
    """

    def __init__(
        self, num_images: int, width: int, temperature: float = 0.07, momentum: float = 0.5
    ) -> None:
        super().__init__()
        self.temperature, self.momentum = temperature, momentum
        for name in MEMORIES:
            self.register_buffer(name, torch.empty(0, width))
        # Of the scores of student and teacher; negative until the first step sets them.
        self.register_buffer('constants', torch.full((2,), -1.0))
        self.begin(num_images)

    def begin(self, num_images: int) -> None:
        """Forget everything: uniform memories of so many images."""
        for name in MEMORIES:
            old = getattr(self, name)
            bound = 1 / math.sqrt(old.shape[1] / 3)
            setattr(self, name, old.new_empty(num_images, old.shape[1]).uniform_(-bound, bound))

    def forward(self, student: Tensor, teacher: Tensor, index: Tensor, negatives: Tensor) -> Tensor:
        """The loss of unit features (B, D), and the memories' next state.

        Args:
            index: (B,) the images.
            negatives: (B, K) others.
        """
        chosen = torch.cat([index[:, None], negatives], dim=1)
        pairs = ((student, self.teacher_memory), (teacher, self.student_memory))
        total = student.new_zeros(())
        for which, (features, memory) in enumerate(pairs):
            score = torch.einsum('bkd,bd->bk', memory[chosen], features)
            score = (score / self.temperature).exp()
            if self.constants[which] < 0:
                self.constants[which] = score.detach().mean() * len(memory)
            # A copy: the loop and the next step write where a graph would still read.
            total = total + contrast_loss(score / self.constants[which].clone(), len(memory))
        with torch.no_grad():
            for memory, features in (
                (self.student_memory, student),
                (self.teacher_memory, teacher),
            ):
                mixed = self.momentum * memory[index] + (1 - self.momentum) * features
                memory[index] = F.normalize(mixed, dim=1)
        return total


def contrast_loss(score: Tensor, num_images: int) -> Tensor:
    """Noise-contrastive loss of scores (B, 1 + K), the image's own first, per image."""
    noise = (score.shape[1] - 1) / num_images
    own, others = score[:, 0], score[:, 1:]
    found = (own / (own + noise + EPS)).log().sum() + (noise / (others + noise + EPS)).log().sum()
    return -found / len(score)
