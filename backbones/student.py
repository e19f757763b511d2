"""Students: how distilled weights are found, checked against their card, loaded and written."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from .architectures import VIT, split_name
from .checkpoints import (
    CheckpointError,
    fill_completely,
    read_card,
    read_checkpoint,
    write_safetensors,
)
from .contents import infer_architecture
from .files import sha256_of, write_json

STUDENT_FILE = 'student.safetensors'
CARD_FILE = 'student.json'
PRETRAIN_ROOT = 'work_dirs/pretrain'
# Tracks; there are others.
FULL, SAMPLE = 'full', 'sample'
NAME = re.compile(r'[a-z0-9]+(_[a-z0-9]+)+')


@dataclass(frozen=True)
class StudentWeights:
    """Where a backbone's weights come from: ``init_cfg=dict(type='StudentWeights', ...)``.

    Args:
        student: ``<method>_<arch>``, kept in ``<root>/<student>/seed<seed>/student.safetensors``.
            The method ``scratch`` stands for random weights.
        checkpoint: A student file given directly instead of a name.
        root: Folder of the pretraining runs.
        seed: Pretraining seed.
        track: Track of this run; a student of another one is refused.
    """

    student: str | None = None
    checkpoint: str | None = None
    root: str = PRETRAIN_ROOT
    seed: int = 0
    track: str = FULL

    @classmethod
    def from_cfg(cls, init_cfg: Mapping[str, Any] | None) -> 'StudentWeights | None':
        """Build from a config dict.

        Raises:
            ValueError: another type, an unknown key, or not exactly one of student / checkpoint.
        """
        if init_cfg is None:
            return None
        options = dict(init_cfg)
        kind = options.pop('type', 'StudentWeights')
        if kind != 'StudentWeights':
            raise ValueError(
                f"init_cfg type {kind!r} is not supported by students: use 'StudentWeights', "
                'which loads completely or stops'
            )
        unknown = sorted(options.keys() - cls.__dataclass_fields__.keys())
        if unknown:
            raise ValueError(
                f'init_cfg key {unknown[0]!r} is unknown; '
                f'known: {", ".join(cls.__dataclass_fields__)}'
            )
        source = cls(**options)
        if (source.student is None) == (source.checkpoint is None):
            raise ValueError('init_cfg needs either student=<method>_<arch> or checkpoint=<file>')
        if source.student is not None and not NAME.fullmatch(source.student):
            raise ValueError(f'student {source.student!r} is not of the form <method>_<arch>')
        return source

    @property
    def path(self) -> Path | None:
        """The weight file, or None for random weights."""
        if self.checkpoint is not None:
            return Path(self.checkpoint)
        if self.student.split('_')[0] == 'scratch':
            return None
        return Path(self.root) / self.student / f'seed{self.seed}' / STUDENT_FILE

    def load_into(self, backbone: 'LoadsStudent') -> dict[str, str] | None:
        """Fill every tensor of the backbone from the file; random weights stay as they are.

        Parameters that no file holds (`LoadsStudent.new_parameters`) stay as they are as well.

        Returns:
            The file and its sha256, or None for random weights.

        Raises:
            CheckpointError: anything but a complete match of tensors and architecture, or a
                sample student in a full-scale run.
        """
        path = self.path
        if path is None:
            return None
        if not path.is_file() and self.student is not None:
            method, arch = split_name(self.student) or (self.student, '')
            method, _, data = method.partition('_on_')  # the name of the user's own
            hint = f'tools/pretrain.sh {method}' + (f'_{arch}' if arch not in ('', 'tiny') else '')
            hint += '' if self.track == FULL else f' --track {self.track}'
            hint += f' --seed {self.seed}' if self.seed else ''
            hint += f' --data PATH, where {data} are' if data else ''
            raise CheckpointError(f'{path} does not exist: pretrain this student first ({hint})')
        tensors, card = read_student(path)
        if (track := track_of(card)) != self.track:
            raise CheckpointError(
                f'{path} was pretrained on the track {track!r} and is refused by a run on '
                f'{self.track!r}'
            )
        check_architecture(card, backbone.architecture(), path)
        tensors = backbone.adapt(tensors)
        fill_completely(backbone.network, tensors, path, backbone.new_parameters())
        return dict(file=path.as_posix(), sha256=card['sha256'])


def track_of(card: Mapping[str, Any]) -> str:
    """The track that a student was pretrained on; cards of earlier versions know the sample."""
    return card.get('track') or (SAMPLE if card.get('sample') else FULL)


class LoadsStudent:
    """Mixin of networks that a student's file fills, by name (``init_cfg``) or otherwise.

    Attributes:
        init_student: Where the weights come from; None for random ones, or once they are not
            needed any more.
        loaded: Whether the weights are those of a file.
        loaded_from: That file and its sha256, once it was read.
    """

    init_student: StudentWeights | None = None
    loaded = False
    loaded_from: dict[str, str] | None = None

    @property
    def network(self) -> Any:
        """The module that a student's file fills; by itself."""
        return self

    def new_parameters(self) -> set[str]:
        """Parameters that no student file holds; none."""
        return set()

    def adapt(self, tensors: Mapping[str, Any]) -> Mapping[str, Any]:
        """A file's tensors as a transfer needs them; as they are."""
        return tensors

    def load_weights(self) -> None:
        """Fill the network from the file that ``init_student`` names, if it names any."""
        if self.init_student is not None:
            self.loaded_from = self.init_student.load_into(self)
            self.loaded = True


def read_student(path: str | Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """Tensors and card of a student, the file verified against the card's sha256."""
    path = Path(path)
    card = read_card(path.with_name(CARD_FILE))
    tensors = read_checkpoint(path)
    if not all(isinstance(value, Tensor) for value in tensors.values()):
        raise CheckpointError(f'{path} holds more than tensors: no student')
    digest = sha256_of(path)
    if card.get('sha256') != digest:
        raise CheckpointError(
            f'{path} has sha256 {digest[:12]}, its card says {str(card.get("sha256"))[:12]}: '
            'the file or the card was changed or only half copied'
        )
    return tensors, card


def check_sizes(stated: Any, tensors: Mapping[str, Any], path: Path) -> None:
    """Compare what a card states of a ViT with the tensors, before a network of it is built.

    Raises:
        CheckpointError: it states no architecture, or other sizes than the tensors have.
    """
    if not isinstance(stated, Mapping):
        raise CheckpointError(f'{path.with_name(CARD_FILE)} states no architecture')
    if stated.get('type', VIT) != VIT:
        return
    try:
        found = infer_architecture(tensors)
    except CheckpointError as error:
        raise CheckpointError(f'{path}: {error}') from error
    for key in ('patch_size', 'embed_dim', 'depth', 'img_size'):
        if stated.get(key) != found[key]:
            raise CheckpointError(
                f'{path} is another architecture: {key} {stated.get(key)!r} in the card, '
                f'{found[key]} in the tensors'
            )


def check_architecture(card: Mapping[str, Any], wanted: Mapping[str, Any], path: Path) -> None:
    """Compare a card with a network; head counts leave no trace in the tensors' shapes.

    Earlier cards name timm's model with the tag of weights.
    """
    stated = card.get('architecture')
    if not isinstance(stated, Mapping):
        raise CheckpointError(f'{path.with_name(CARD_FILE)} states no architecture')
    different = [
        f'{key} {stated.get(key)} in the card, {value} in the config'
        for key, value in wanted.items()
        if stated.get(key) != value
        and not (key == 'model' and str(stated.get(key)).partition('.')[0] == value)
    ]
    if different:
        raise CheckpointError(f'{path} is another architecture: {"; ".join(different)}')


def save_student(folder: str | Path, backbone: 'LoadsStudent', card: Mapping[str, Any]) -> Path:
    """Write ``student.safetensors`` (bare keys, timm's for ViTs) and, last, ``student.json``.

    `LoadsStudent.new_parameters` are no part of a student and are left out.
    """
    folder = Path(folder)
    left_out = backbone.new_parameters()
    tensors = {k: v for k, v in backbone.network.state_dict().items() if k not in left_out}
    digest = write_safetensors(folder / STUDENT_FILE, tensors)
    architecture = backbone.architecture()
    write_json(folder / CARD_FILE, {**card, 'architecture': architecture, 'sha256': digest})
    return folder / STUDENT_FILE
