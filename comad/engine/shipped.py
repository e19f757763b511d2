"""Teachers that come with a track: small networks of its own, in the official files' layouts.

``base_configs/tracks/<track>/teachers/<run>/`` holds the file that the pretraining ``<run>`` of
seed 0 has left, under its official name and in float16, and `CARD`, which says how it came about
and what it is worth. It is found by being there. A run that reads one finds it in the folder of
that pretraining, where it is written unless something lies there already. Nothing here imports
torch before it is needed.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from backbones.files import atomic_path, one_line, read_json, sha256_of, write_json
from backbones.names import meant
from comad.engine.options import ConfigError
from comad.runs.card import read_student_card
from comad.runs.place import FILES, pretrain_dir, pretrain_root
from comad.runs.track import FOLDER, Track

CARD = 'card.json'
STUDENT, CARD_OF_STUDENT = 'student.safetensors', 'student.json'
MAX_BYTES = 2_000_000
# Of MoCo v3's file: its reader takes the other encoder, and nothing is trained on from here.
UNREAD = ('module.momentum_encoder.', 'module.predictor.')
SEED = 0


def shipped_folder(run: str, track: str) -> Path:
    """Where a run's file and card lie, relative to the suite's files."""
    return FOLDER / track / 'teachers' / run


def shipped_runs(track: str) -> tuple[str, ...]:
    """The pretrainings of a track whose files come with it."""
    cards = (FILES / shipped_folder('', track)).glob(f'*/{CARD}')
    return tuple(sorted(path.parent.name for path in cards))


def run_of(file: str | Path, track: Track) -> str:
    """The pretraining run of a track that writes a file; '' for a file from elsewhere."""
    place = Path(file).parts
    root = Path(pretrain_root(track.name)).parts
    return place[len(root)] if place[: len(root)] == root and len(place) > len(root) + 2 else ''


def is_shipped(file: str | Path, track: Track) -> bool:
    """Whether a file is one that a shipped teacher brings to the folder of its pretraining."""
    file, run = Path(file), run_of(file, track)
    if run not in shipped_runs(track.name) or file.parent != pretrain_dir(track.name, run, SEED):
        return False
    return file.name == STUDENT or (FILES / shipped_folder(run, track.name) / file.name).is_file()


def read_shipped(run: str, track: str) -> tuple[Path, dict[str, Any]]:
    """File and card of a shipped teacher.

    Raises:
        ConfigError: There is none, or its file is not the one of the card.
    """
    folder = FILES / shipped_folder(run, track)
    if run not in (known := shipped_runs(track)):
        raise ConfigError(
            f'no teacher {run}{meant(run, known)} comes with the track {track}; there are: '
            f'{", ".join(known) or "none"}'
        )
    try:
        card = read_json(folder / CARD)
        file, digest = folder / card['file'], card['sha256']
        found = sha256_of(file)
    except (OSError, ValueError, KeyError) as error:
        reason = one_line(error).removeprefix(f'{folder / CARD}: ')
        raise ConfigError(f'{folder / CARD} is damaged: {reason}') from None
    if found != digest:
        raise ConfigError(f'{file} is damaged: its sha256 is {found}, {CARD} says {digest}')
    return file, card


def place(run: str, track: str) -> Path:
    """Write a shipped teacher as its pretraining would have: its file, a student and its card.

    The student's tensors are read from the file, by the reader of its family.

    Raises:
        ConfigError: See :func:`read_shipped`.
        CheckpointError: The file does not fit its network.
    """
    from backbones import save_student
    from backbones.teachers import build_teacher

    file, card = read_shipped(run, track)
    folder = pretrain_dir(track, run, SEED)
    teacher = build_teacher(card['family'], file, arch=card['arch'])
    with atomic_path(folder / file.name) as copy:
        shutil.copyfile(file, copy)
    save_student(folder, teacher, card['student'])
    return folder


def ship(run: str, track: str, file: str, told: Mapping[str, Any]) -> Path:
    """Make the finished pretraining ``run`` of seed 0 a shipped teacher, and place it.

    Args:
        run: Its name.
        track: The track.
        file: Name of its official file.
        told: What its card says besides: ``family`` and ``arch`` that the file is read by, the
            ``command`` that trained it, and ``probe``, what it is worth.

    Returns:
        The folder of file and card.

    Raises:
        CheckpointError: No such file, or it is no finite network in float16.
        ValueError: The run has no card.
        ConfigError: The file is too large.
    """
    from backbones.checkpoints import read_checkpoint, write_torch

    made, folder = pretrain_dir(track, run, SEED), FILES / shipped_folder(run, track)
    student = read_student_card(made / CARD_OF_STUDENT).as_dict()
    del student['sha256']  # of the file in float32
    write_torch(folder / file, _halved(read_checkpoint(made / file)))
    if (size := (folder / file).stat().st_size) > MAX_BYTES:
        raise ConfigError(f'{folder / file} has {size:,} bytes; at most {MAX_BYTES:,} are shipped')
    card = dict(file=file, sha256=sha256_of(folder / file), **told, student=student)
    write_json(folder / CARD, card)
    place(run, track)
    return folder


def _halved(content: Any) -> Any:
    """The content of a weight file with its real numbers in float16, without what is unread."""
    if isinstance(content, Mapping):
        kept = (key for key in content if not str(key).startswith(UNREAD))
        return {key: _halved(content[key]) for key in kept}
    return content.half() if getattr(content, 'is_floating_point', bool)() else content
