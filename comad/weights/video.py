"""Weight files of networks on video: what is inside, and students in VideoMAE's layout."""

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from backbones import CheckpointError, MaskedVideoViT, load_student
from backbones.architectures import ARCHITECTURES, network_type
from backbones.checkpoints import fill_completely, read_checkpoint, write_torch
from backbones.families import VIDEO_FAMILIES
from backbones.video_files import (
    CLASSIFIER,
    EMBEDDING,
    as_official,
    official_tensors,
    read_video_classifier,
    split_pretraining,
)
from backbones.video_vit import NETWORK
from comad.weights.report import file_lines, licence_of, table

NORM = ('norm.weight', 'norm.bias')
CLASSIFIER_TENSORS = ('fc_norm.weight', 'fc_norm.bias', 'head.weight', 'head.bias')
VIDEOMAE_FILE = 'videomae.pth'


@dataclass
class VideoReport:
    """What was found, in the order in which it is told.

    Attributes:
        path: The file; of a directory, the one in it.
        family: Name in ``VIDEO_FAMILIES``.
        evidence: Why this family; what the user said counts.
        architecture: tubelet, patch_size, embed_dim and depth.
        heads: What is assumed, by the width; None where no architecture has it.
        used: The encoder's tensors by our names.
        classes: Of a fine-tuned file; None of a pretraining.
        dropped: Tensor name -> what it is.
        problem: Why the network does not fit; None if it does.
    """

    path: Path
    family: str
    evidence: str
    architecture: dict[str, int]
    heads: int | None
    used: dict[str, Tensor]
    classes: int | None
    dropped: dict[str, str]
    problem: str | None = None

    def text(self) -> str:
        """A few lines for people."""
        a, heads = self.architecture, self.heads
        parameters = sum(tensor.numel() for tensor in self.used.values())
        dropped = Counter(self.dropped.values())
        what = 'a pretraining' if self.classes is None else f'fine-tuned on {self.classes} classes'
        lines = [
            *file_lines(self.path),
            ('family', f'{self.family}: {self.evidence}'),
            ('network', f'of {what}'),
            (
                'shape',
                f'{a["depth"]} blocks {a["embed_dim"]} wide, cubes of {a["tubelet"]} x '
                f'{a["patch_size"]} x {a["patch_size"]}; {heads or "number of"} heads '
                f'{"assumed" if heads else "unknown"}, files say neither these nor the size of '
                'clips',
            ),
            ('used', f'{len(self.used)} tensors, {parameters / 1e6:,.2f} M parameters'),
            ('left out', ', '.join(f'{n} of {what}' for what, n in dropped.items()) or 'nothing'),
            ('positions', 'none: a fixed table'),
            ('licence', ', '.join(licence_of(self.path, VIDEO_FAMILIES[self.family].licence))),
            ('verdict', self.problem or 'complete: every tensor of the network is in the file'),
        ]
        return table(lines)


def inspect_video(path: Path, tensors: Mapping[str, Tensor], family: str = 'auto') -> VideoReport:
    """Try to fill the network that a file on video describes.

    Args:
        path: Of the file.
        tensors: Of the file, by the official names, see `official_tensors`.
        family: A name in ``VIDEO_FAMILIES``, or ``auto``.
    """
    evidence = 'as you say'
    if family == 'auto':
        generators = any(name.startswith('generators.') for name in tensors)
        family = 'amd_video' if generators else 'videomae'
        evidence = "AMD's generators are in it" if generators else 'cubes, and no generators'
    classes, dropped = None, {}
    if any(CLASSIFIER.match(name.removeprefix('encoder.')) for name in tensors):
        used = read_video_classifier({'model': tensors}, str(path))
        classes = len(used['head.bias']) if 'head.bias' in used else 0
    else:
        used, dropped = split_pretraining(family, tensors)
    width, _, tubelet, size, _ = used[EMBEDDING].shape
    numbers = [int(found[1]) for name in used if (found := re.match(r'blocks\.(\d+)\.', name))]
    shape = dict(tubelet=tubelet, patch_size=size, embed_dim=width, depth=max(numbers, default=-1))
    shape['depth'] += 1
    heads = next(
        (
            entry['num_heads']
            for name, entry in ARCHITECTURES.items()
            if network_type(name) == NETWORK and entry['embed_dim'] == width
        ),
        None,
    )
    report = VideoReport(path, family, evidence, shape, heads, used, classes, dropped)
    own, missing = dict(used), []
    if classes is not None:
        missing = [name for name in CLASSIFIER_TENSORS if own.pop(name, None) is None]
    try:
        # No tensor depends on heads, frames and size.
        network = MaskedVideoViT(img_size=size, frames=tubelet, num_heads=heads or 1, **shape)
        fill_completely(network, own, path, () if classes is None else NORM)
    except (CheckpointError, ValueError, AssertionError, ArithmeticError) as error:
        report.problem = str(error) or f'no ViT has this shape: {shape}'
    if missing and not report.problem:
        report.problem = f'{path} has no {missing[0]}, which a fine-tuned file has'
    return report


def write_videomae(student: Path, network: MaskedVideoViT, folder: Path) -> dict[str, Tensor]:
    """Write ``videomae.pth``: ``{'model': encoder.*}``, which VideoMAE's fine-tuning reads.

    What comes back out of the file is compared with the student.

    Args:
        student: File of the student, for messages.
        network: The student.
        folder: Where to write.

    Returns:
        The tensors by their official names.

    Raises:
        CheckpointError: no network on video, or other tensors come back.
    """
    if not isinstance(network, MaskedVideoViT):
        raise CheckpointError(
            f'{student} is a {type(network).__name__}: --to videomae is for networks on video'
        )
    tensors = as_official(network.state_dict(), 'encoder.')
    path = folder / VIDEOMAE_FILE
    write_torch(path, {'model': tensors})
    found, _ = split_pretraining('videomae', official_tensors(read_checkpoint(path)))
    again = load_student(student)
    fill_completely(again, found, path)
    for name, value in network.state_dict().items():
        if not value.equal(again.state_dict()[name]):
            raise CheckpointError(f'{path}: {name} does not come back as it is in {student}')
    return tensors
