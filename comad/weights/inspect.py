"""Say what a weight file holds, which network is used, and whether all of it fits."""

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from backbones import CheckpointError, Teacher, read_checkpoint
from backbones.architectures import vits
from backbones.checkpoints import fill_completely, find_file
from backbones.contents import Network, choose_network, find_networks, infer_architecture
from backbones.families import FAMILIES, VIDEO_FAMILIES
from backbones.teachers import network_options, tell_family
from backbones.video_files import official_tensors
from comad.weights.report import file_lines, licence_of, table
from comad.weights.student import StudentReport, find_student, inspect_student
from comad.weights.video import VideoReport, inspect_video


@dataclass
class Report:
    """What was found, in the order in which it is told.

    Attributes:
        path: The file; of a directory, the one in it.
        family: Name in ``FAMILIES``.
        evidence: Why this family; what the user said counts.
        network: The network that is used.
        others: Names of the file's other networks.
        architecture: img_size, patch_size, embed_dim and depth.
        heads: What is assumed, by the width; None where no architecture has it.
        dropped: Tensor name -> what it is.
        problem: Why the network does not fit; None if it does.
    """

    path: Path
    family: str
    evidence: str
    network: Network
    others: list[str]
    architecture: dict[str, int]
    heads: int | None
    dropped: dict[str, str]
    problem: str | None = None
    teacher: Teacher | None = field(default=None, repr=False)

    @property
    def used(self) -> dict:
        """The backbone's tensors."""
        return self.network.split()[0]

    def text(self) -> str:
        """A few lines for people."""
        a, used = self.architecture, self.used
        parameters = sum(tensor.numel() for tensor in used.values())
        dropped = Counter(self.dropped.values())
        lines = [
            *file_lines(self.path),
            ('family', f'{self.family}: {self.evidence}'),
            ('network', f'{self.network.name}' + _others(self.others)),
            (
                'shape',
                f'{a["depth"]} blocks {a["embed_dim"]} wide, patch {a["patch_size"]}, '
                f'{a["img_size"]} px; {self.heads or "number of"} heads '
                f'{"assumed" if self.heads else "unknown"}, files do not say',
            ),
            ('used', f'{len(used)} tensors, {parameters / 1e6:,.2f} M parameters'),
            ('left out', ', '.join(f'{n} of {what}' for what, n in dropped.items()) or 'nothing'),
            (
                'positions',
                f'grid {a["img_size"] // a["patch_size"]} a side, other sizes by '
                f'{network_options(self.family, self.network, {})["pos_interpolation"]}',
            ),
            ('licence', ', '.join(licence_of(self.path, FAMILIES[self.family].licence))),
            ('verdict', self.problem or 'complete: every tensor of the network is in the file'),
        ]
        return table(lines)


def inspect_file(path: str | Path, family: str = 'auto') -> Report | VideoReport | StudentReport:
    """Read a file and try to fill the network that it describes.

    Args:
        path: A weight file, or a directory with one.
        family: A name in ``FAMILIES`` or ``VIDEO_FAMILIES``, or ``auto``, which also knows this
            suite's students by their cards.

    Raises:
        CheckpointError: unreadable, unsafe, or no network of that family in it.
    """
    if family not in (*FAMILIES, *VIDEO_FAMILIES, 'auto'):
        known = ', '.join((*FAMILIES, *VIDEO_FAMILIES))
        raise CheckpointError(f'family {family!r} is unknown; known: auto, {known}')
    if family == 'auto' and (student := find_student(path)):
        return inspect_student(student)
    path = find_file(path)
    content = read_checkpoint(path)
    clips = official_tensors(content)
    if clips and family in (*VIDEO_FAMILIES, 'auto'):
        return inspect_video(path, clips, family)
    if family in VIDEO_FAMILIES:
        raise CheckpointError(f'{path} does not look like a {family} file: no cubes are embedded')
    networks = find_networks(content)
    evidence = 'as you say'
    if family == 'auto':
        family, evidence = tell_family(path, content, networks)
    network = choose_network(family, networks)
    if network is None:
        raise CheckpointError(
            f'{path} does not look like a {family} file: expected {FAMILIES[family].layout}'
        )
    used, dropped = network.split()
    try:
        shape = infer_architecture(used)
    except CheckpointError as error:
        raise CheckpointError(f'{path}: {error}') from error
    heads = assumed_heads(shape)
    report = Report(
        path=path,
        family=family,
        evidence=evidence,
        network=network,
        others=sorted(networks.keys() - {network.name}),
        architecture=shape,
        heads=heads,
        dropped=dropped,
    )
    try:
        # No tensor depends on the heads.
        options = {**shape, 'num_heads': heads or 1}
        teacher = Teacher(**network_options(family, network, options))
        fill_completely(teacher, used, path)
        report.teacher = teacher
    except (CheckpointError, ValueError, AssertionError, ArithmeticError) as error:
        report.problem = str(error) or f'no ViT has this shape: {shape}'
    return report


def assumed_heads(shape: dict[str, int]) -> int | None:
    """Heads of our architecture of the same width; None if there is none."""
    known = (entry for entry in vits().values() if entry['embed_dim'] == shape['embed_dim'])
    return next((entry['num_heads'] for entry in known), None)


def _others(names: list[str]) -> str:
    return f' (also there, not used: {", ".join(names)})' if names else ''
