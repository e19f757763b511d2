"""Weight files of classifiers: timm's, of today and of timm 0.6, and students of this suite."""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from .architectures import ARCHITECTURES
from .checkpoints import check_pin, fill_completely, find_file, read_checkpoint
from .frozen import Frozen
from .stage_cuts import Stages, Tail
from .staged import StagedClassifier
from .student import CARD_FILE, check_architecture, read_student
from .teachers import is_untrained
from .timm_files import read_timm


class FrozenStages(Frozen):
    """A frozen `StagedClassifier`: a teacher whose tail may take part in a graph."""

    def __init__(self, network: StagedClassifier) -> None:
        super().__init__()
        self.inner = network
        self.freeze()
        for name in ('family', 'num_prefix', 'embed_dim', 'widths', 'grids'):
            setattr(self, name, getattr(network, name))
        self.tail_width, self.tail_grid = network.tail_width, network.tail_grid
        self.num_classes = network.num_classes
        self._stages = network.stages

    @property
    def network(self) -> torch.nn.Module:
        """The module that a weight file fills."""
        return self.inner.net

    def compile_calls(self, **options: Any) -> None:
        """Compile ``stages`` in place; ``options`` of torch.compile."""
        self._stages = torch.compile(self.inner.stages, dynamic=False, **options)

    def stages(self, images: Tensor) -> Stages:
        """As `StagedClassifier.stages`, without a graph; the results may take part in one."""
        found = self.ask(self._flat, images)
        return Stages(tuple(found[:4]), *found[4:])

    def logits(self, images: Tensor) -> Tensor:
        """Class scores (B, K), without a graph."""
        return self.stages(images).logits

    def tail(self, x: Tensor) -> Tail:
        """As `StagedClassifier.tail`: nothing is trained, and gradients go on to ``x``."""
        kind = x.device.type
        if torch.is_autocast_enabled(kind):
            self.cast(torch.get_autocast_dtype(kind))
        with torch.autocast(kind, enabled=False):
            return self.inner.tail(x.to(next(self.parameters()).dtype))

    def class_token(self) -> Tensor | None:
        """(1, 1, D) of a ViT, without position; None of other networks."""
        return self.inner.class_token()

    def _flat(self, images: Tensor) -> list[Tensor]:
        found = self._stages(images)
        return [*found.stages, *found[1:]]


def build_classifier(
    arch: str,
    checkpoint: str | Path,
    num_classes: int,
    sha256: str | None = None,
    img_size: int | None = None,
) -> FrozenStages:
    """A frozen classifier from its file, with its card.

    Args:
        arch: Name in `ARCHITECTURES`.
        checkpoint: A file in timm's layout, or a ``student.safetensors`` with its card.
        num_classes: Of the data, which the file's classifier has to have.
        sha256: Start of the file's digest, checked.
        img_size: Edge of the images; default the network's own.

    Raises:
        CheckpointError: anything but a complete match.
    """
    network = StagedClassifier(arch=arch, num_classes=num_classes, img_size=img_size)
    card = {'family': ARCHITECTURES[arch]['title'], 'arch': arch}
    if is_untrained():
        path = Path('untrained')
        card |= {'file': 'untrained', 'licence': 'no weights'}
    else:
        path = find_file(checkpoint)
        check_pin(path, sha256)
        card |= {'file': path.name, 'licence': load_classifier(network, path)}
    teacher = FrozenStages(network)
    teacher.card = {**card, 'digest': teacher.digest()}
    return teacher


def load_classifier(
    network: StagedClassifier, checkpoint: str | Path, new_head: bool = False
) -> str:
    """Fill a network from a file, every tensor or none; returns the weights' licence.

    Args:
        network: What to fill.
        checkpoint: See `build_classifier`.
        new_head: Keep the network's own classifier, as a fine-tuning on other classes does.

    Raises:
        CheckpointError: missing, unexpected or resized tensors.
    """
    path = find_file(checkpoint)
    if path.with_name(CARD_FILE).is_file():
        tensors, card = read_student(path)
        own = {
            k: v for k, v in network.architecture().items() if k != 'num_classes' or not new_head
        }
        check_architecture(card, own, path)
        licence = card.get('licence') or 'not stated'
    else:
        tensors = read_timm(read_checkpoint(path), network.net, path).tensors
        licence = (network.net.pretrained_cfg or {}).get('license') or 'not stated by timm'
    if new_head:
        head = network.head_names()
        own = network.net.state_dict()
        tensors = {k: v for k, v in tensors.items() if k not in head}
        tensors |= {k: own[k] for k in head}
    fill_completely(network.network, tensors, path)
    return licence
