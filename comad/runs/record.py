"""Run records: one small JSON per finished evaluation, the only source of measured table rows.

The structs below are the schema. A record is written atomically, stays below 8 KB and carries what
its row needs. A file is read only if it holds, byte for byte, what would be written for its
contents: a key that is there twice, or that nobody knows, does not get past that. Which metrics and
protocol fields a task has is not known here, see `comad.tasks.recording`.
"""

import hashlib
import json
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

import msgspec
from msgspec import Meta, Struct

from backbones.files import atomic_file
from comad.data.identity import DataIdentity
from comad.runs.place import pretrain_dir
from comad.runs.track import FULL, SAMPLE

SCHEMA = 4
RECORD_FILES = '[!.]*.json'  # hidden ones are the file system's, such as ._x.json
MAX_BYTES = 8192
MAX_REASON = 300
PATH = re.compile(r'[\w./-]{1,100}')

# No record can be written outside its folder: task and student are part of its file's name.
Name = Annotated[str, Meta(pattern=r'^[a-z0-9][a-z0-9_]*\Z')]
Whole = Annotated[int, Meta(ge=0, le=2**63 - 1)]
Real = Annotated[float, Meta(ge=0)]
Plain = str | int | float | bool | None
Unit = Literal['image', 'clip']


class RecordError(ValueError):
    """A record that does not keep the schema; the message is one line."""


class Section(Struct, frozen=True, forbid_unknown_fields=True):
    """Part of a record: exactly its fields, each of its type."""


class Protocol(Section):
    """Under what the evaluation was made; ``fields`` as the task reads them from the config."""

    name: str
    version: Whole
    fields: dict[str, str | int | float | None]


class Teacher(Section, forbid_unknown_fields=False):
    """A frozen teacher of the pretraining; ``digest`` is that of its tensors.

    ``input_size`` is the edge that images were resized to for it, in pixels; None if they were not.
    """

    family: str | None = None
    file: str | None = None
    digest: str | None = None
    licence: str | None = None
    input_size: Whole | None = None
    sees: str | msgspec.UnsetType = msgspec.UNSET
    read: str | msgspec.UnsetType = msgspec.UNSET


class Segment(Section):
    """Part of a training that was stopped and went on with another config, code or Slurm job.

    ``begin`` is the step after which it began, ``planned`` the steps of the whole training as its
    config says.
    """

    begin: Whole
    planned: Whole
    config_digest: str | None
    git_commit: str | None
    git_dirty: bool | None
    job: str | msgspec.UnsetType = msgspec.UNSET


# Absent from the file where a training had one config, one job, and one commit without changes.
Segments = list[Segment] | msgspec.UnsetType


class Student(Section):
    """The network and its pretraining; without one only names, architecture and size are known.

    ``unit`` is what ``images_seen`` and ``pretrain_gflop_per_image`` count: a clip is one image.
    """

    name: Name
    method: Name
    arch: Name
    architecture: dict[str, Plain | list[Plain]] | None
    params_m: Real | None
    method_version: str | None = None
    config_digest: str | None = None
    epochs: Real | None = None
    iterations: Whole | None = None
    images_seen: Whole | None = None
    unit: Unit = 'image'
    data: DataIdentity | None = None
    teachers: list[Teacher] = []
    licence: str | None = None
    pretrain_seconds: Real | None = None
    pretrain_gflop_per_image: Real | None = None
    git_commit: str | None = None
    sha256: str | None = None
    segments: Segments = msgspec.UNSET

    @property
    def pretrain_data(self) -> str | None:
        """What it was pretrained on, as a table's cell shows it."""
        return None if self.data is None else self.data.text


class Seeds(Section):
    """Seed of the pretraining and of the evaluation."""

    pretrain: Whole
    transfer: Whole


class Config(Section):
    """The leaf that ran; ``digest`` is that of its resolved form without seeds and places."""

    path: str
    digest: str
    source: str
    work_dir: str | None
    resolved_sha256: str | None
    segments: Segments = msgspec.UNSET


class Checkpoint(Section):
    """The weights that were evaluated, relative to the work dir; None where nothing is trained."""

    file: str | None = None
    sha256: str | None = None


class Cost(Section, kw_only=True):
    """What the transfer took; ``unit`` is what rates and GFLOP count, and ``images_seen``."""

    device_kind: Literal['cpu', 'gpu']
    processes: Annotated[int, Meta(ge=1)]
    device_hours: Real
    unit: Unit = 'image'
    images_per_second: Real | None
    gflops: Real | None


class Environment(Section):
    """Where it ran, see `comad.runs.environment.collect_environment`."""

    versions: dict[str, str]
    device: str
    git_commit: str | None
    git_dirty: bool | None
    mmcv_operators: str | None = None
    python: str | None = None
    platform: str | None = None
    cpu: str | None = None
    cpu_cores: Whole | None = None
    threads: Whole | None = None
    world_size: Whole | None = None


class Record(Section, kw_only=True):
    """One finished evaluation.

    ``dataset`` is what was evaluated, ``train_dataset`` what the transfer (or the bank of k-NN)
    learned from. ``sample`` tells the embedded sample's track from full scale; any other is named
    by ``track``, which files of these two leave out. ``missing`` holds the reason for every metric
    that is not reported; ``digest`` is
    the SHA-256 of the record's bytes with an empty one.
    """

    schema: Literal[4]
    task: Name
    sample: bool
    other_track: Name | msgspec.UnsetType = msgspec.field(default=msgspec.UNSET, name='track')
    dataset: DataIdentity
    train_dataset: DataIdentity | None
    protocol: Protocol
    metrics: dict[str, Real]
    missing: dict[str, str]
    other_metrics: dict[str, Real]
    student: Student
    seeds: Seeds
    config: Config
    environment: Environment
    checkpoint: Checkpoint
    cost: Cost
    wall_seconds: Real
    images_seen: Whole
    digest: str

    def __post_init__(self) -> None:
        if self.other_track is not msgspec.UNSET and (
            self.sample or self.other_track in (FULL, SAMPLE)
        ):
            raise ValueError(f'names the track {self.other_track!r} beside sample={self.sample}')

    @property
    def track(self) -> str:
        """The track that it was made on."""
        return SAMPLE if self.sample else self.other_track or FULL

    @property
    def file(self) -> str:
        """Name of the record's file."""
        return record_name(self)

    @property
    def manifest(self) -> str | None:
        """Digests of the data that the run read, joined by '+'; None if any has no manifest."""
        read = [data for data in (self.train_dataset, self.dataset) if data is not None]
        digests = list(dict.fromkeys(data.manifest for data in read))
        return None if None in digests else '+'.join(map(str, digests))

    @property
    def pretrain_dir(self) -> Path:
        """Folder of the student's pretraining, relative to the home."""
        return pretrain_dir(self.track, self.student.name, self.seeds.pretrain)


class Records(NamedTuple):
    """What a folder of records holds: the good ones, and one line per refused file."""

    accepted: list[Record]
    refused: list[str]


def record_name(record: Record) -> str:
    """Return the file name of a record: ``<kind>_<student>_p<P>_s<N>.json``."""
    seeds = record.seeds
    return f'{record.task}_{record.student.name}_p{seeds.pretrain}_s{seeds.transfer}.json'


def resolved_name(task: str) -> str:
    """Return the name of the resolved config that a run of that task leaves in its work dir."""
    return f'resolved_{task}.py'


def seal(contents: Mapping[str, Any]) -> Record:
    """Return the record of these contents, checked, and with its digest.

    Raises:
        RecordError: A field that is absent, unknown, of another type or out of its range; the
            line ends in its place, ``$.seeds.pretrain``. A record of 8 KB or more.
    """
    try:
        made = msgspec.convert({'schema': SCHEMA, **contents, 'digest': ''}, Record)
        made = msgspec.structs.replace(made, digest=_digest(made))
        # Through its bytes: half a surrogate pair is no text, and NaN becomes null.
        record = decode(encode(made))
        if record != made:
            raise RecordError('holds a number that is not finite')
    except RecordError:
        raise
    except (ValueError, OverflowError, RecursionError) as error:
        raise RecordError(_one_line(error)) from None
    if (size := len(encode(record))) >= MAX_BYTES:
        parts = msgspec.to_builtins(record)
        largest = max(parts, key=lambda key: len(json.dumps(parts[key])))
        raise RecordError(
            f'the record of {record.file} has {size} bytes, {MAX_BYTES} are the limit; its '
            f'largest part is {largest!r}'
        )
    return record


def encode(record: Record) -> bytes:
    """Return the bytes of a record's file: keys of dictionaries sorted, one entry a line."""
    return msgspec.json.format(msgspec.json.encode(record, order='deterministic'), indent=1) + b'\n'


def write_record(directory: str | os.PathLike[str], record: Record) -> Path:
    """Write a sealed record into ``directory`` atomically and return the file's path.

    A record of the same run is replaced; a reader sees the old one or the new one, whole.

    Raises:
        RecordError: If `seal` did not make the record.
    """
    content = encode(record)
    decode(content)
    folder = Path(directory)
    folder.mkdir(parents=True, exist_ok=True)
    with atomic_file(folder / record.file) as stream:
        stream.write(content)
    return folder / record.file


def read_records(directory: str | os.PathLike[str]) -> Records:
    """Read every ``*.json`` in ``directory`` but hidden ones, by name; a missing folder holds none.

    Refused, each with one line that names file and reason: what `read_record` raises on.
    """
    accepted: list[Record] = []
    refused: list[str] = []
    for path in sorted(Path(directory).glob(RECORD_FILES)):
        try:
            accepted.append(read_record(path))
        except (RecordError, OSError) as error:
            refused.append(refusal(path, error))
    return Records(accepted, refused)


def read_record(path: str | os.PathLike[str]) -> Record:
    """Read one record.

    Raises:
        OSError: If it cannot be read.
        RecordError: If it is no plain file, too large, no valid JSON, breaks the schema, was
            edited, or lies under another run's name.
    """
    path = Path(path)
    if path.is_symlink() or not path.is_file():
        raise RecordError('not a plain file')
    if (size := path.stat().st_size) >= MAX_BYTES:
        raise RecordError(f'{size} bytes, {MAX_BYTES} are the limit')
    record = decode(path.read_bytes())
    if path.name != record.file:
        raise RecordError(f'holds the record {record.file}; was the file copied?')
    return record


def refusal(path: str | os.PathLike[str], reason: Any) -> str:
    """Return one line that names a file and why it is refused."""
    # A file's name may hold bytes that no terminal can show.
    return _one_line(f'{path}: {reason}').encode(errors='backslashreplace').decode()


class _Head(Struct):
    """What is looked at first, whatever else a file holds."""

    schema: Any = None
    config: Any = None


def decode(content: bytes) -> Record:
    """Return the record that these bytes are, exactly; errors as `read_record`."""
    record = parse(content)
    if not record.metrics and not record.missing:
        raise RecordError('neither a metric nor a reason for its absence')
    if record.digest != _digest(record):
        raise RecordError('the digest does not match the contents; was the file edited?')
    if encode(record) != content:
        raise RecordError('is not what is written for its contents; was the file edited?')
    return record


def parse(content: bytes) -> Record:
    """Return the record that these bytes hold, edited or not; `decode` is for what is to count.

    Raises:
        RecordError: No valid JSON, or the schema is broken.
    """
    try:
        head = msgspec.json.decode(content, type=_Head)
        if head.schema != SCHEMA or isinstance(head.schema, bool):
            raise RecordError(_other_schema(head))
        record = msgspec.json.decode(content, type=Record)
        encode(record)  # half a surrogate pair can be read, but is no text
    except msgspec.ValidationError as error:
        raise RecordError(_one_line(error)) from None
    except (msgspec.DecodeError, RecursionError) as error:
        raise RecordError(f'not valid JSON ({_one_line(error)})') from None
    except (UnicodeError, OverflowError) as error:
        raise RecordError(_one_line(error)) from None
    return record


def _digest(record: Record) -> str:
    return hashlib.sha256(encode(msgspec.structs.replace(record, digest=''))).hexdigest()


def _other_schema(head: _Head) -> str:
    text = f'schema {head.schema!r:.40} is not {SCHEMA}'
    if not isinstance(head.schema, int) or head.schema >= SCHEMA:
        return text
    # What an earlier version did not write down cannot be added afterwards.
    path = head.config.get('path') if isinstance(head.config, dict) else None
    path = path if isinstance(path, str) and PATH.fullmatch(path) else 'CONFIG'
    return f'{text}: made by an earlier version; run it again with tools/train.py {path}'


def _one_line(error: Any) -> str:
    """msgspec marks names by backticks, which a terminal needs not."""
    text = ' '.join(str(error).replace('`', '').split())
    return text if len(text) <= MAX_REASON else f'{text[:MAX_REASON]}...'
