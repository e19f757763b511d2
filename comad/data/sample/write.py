"""The embedded sample in the on-disk layouts of ImageNet, ADE20K, COCO and CIFAR-100 (binary).

Equal seed and sizes give equal bytes. The first three hold scenes of patterned blobs (`scenes.py`),
segmentation and detection the same ones; CIFAR-100's layout holds handwritten digits (`digits.py`).
"""

import fcntl
import hashlib
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

from backbones.files import read_json, sha256_of, write_json
from comad.data.pool import run_tasks
from comad.data.sample.digits import DigitRenderer
from comad.data.sample.layouts import (
    cifar_bytes,
    encode,
    write_cifar,
    write_imagenet,
    write_instances,
    write_scenes,
)
from comad.data.sample.scenes import CLASSES, SPLITS, SceneRenderer

# Raise whenever the same seed and sizes would give other bytes: older samples are then rebuilt.
SAMPLE_VERSION = 5
SAMPLE_ROOT = 'data/sample'
MANIFEST = 'manifest.json'
CONTACT_SHEET = 'contact_sheet.png'
CONTENT = ('imagenet', 'ade', 'coco', 'cifar-100-binary', CONTACT_SHEET)

# Images that a process draws at a time.
CHUNK = 100

Progress = Callable[[int, int], None]


class Part(NamedTuple):
    """Some images of a layout: 'imagenet', 'scenes' or 'cifar'."""

    kind: str
    split: str
    indices: range


@dataclass(frozen=True)
class SampleSizes:
    """Numbers of images: classification, and scenes for both dense tasks."""

    imagenet_train: int = 6000
    imagenet_val: int = 4000
    scenes_train: int = 1600
    scenes_val: int = 400

    def __post_init__(self) -> None:
        for name, value in asdict(self).items():
            least = len(CLASSES) if name.startswith('imagenet') else 1
            if value < least:
                raise ValueError(f'{name}={value}: at least {least} images are needed')


class SampleError(RuntimeError):
    """The folder cannot take a sample."""


def write_sample(
    root: str | Path = SAMPLE_ROOT,
    seed: int = 0,
    sizes: SampleSizes | None = None,
    force: bool = False,
    workers: int = 1,
    progress: Progress | None = None,
    report: Callable[[str], None] | None = None,
) -> bool:
    """Write the sample, unless exactly this one is already there.

    It is written beside ``root`` and moved there when complete, so a folder with a manifest is
    whole; a lock lets several processes ask at once.

    Args:
        root: folder of the sample; must not exist, be empty or hold an earlier sample.
        seed: of all scenes and of the split of the digits.
        sizes: numbers of images.
        force: write even if the same sample is there.
        workers: processes that draw; the bytes are equal for any number.
        progress: called with images done and images in all.
        report: called with one line that says why an existing sample is replaced.

    Returns:
        Whether anything was written.

    Raises:
        SampleError: ``root`` holds something that is no sample.
        ValueError: negative seed.
    """
    if seed < 0:
        raise ValueError(f'seed={seed}: expected 0 or more')
    # A link to another disk stays a link.
    root = Path(root).resolve()
    sizes = sizes or SampleSizes()
    root.parent.mkdir(parents=True, exist_ok=True)
    with locked(root.parent / f'.{root.name}.lock'):
        reason = 'a new one was asked for' if force else find_fault(root, seed, sizes)
        if reason is None:
            return False
        if root.exists() and any(root.iterdir()):
            _check_replaceable(root)
            if report:
                report(f'{root} is replaced: {reason}')
        unfinished, old = (root.parent / f'.{root.name}.{kind}' for kind in ('partial', 'old'))
        shutil.rmtree(unfinished, ignore_errors=True)
        try:
            _write_all(unfinished, seed, sizes, workers, progress or (lambda done, total: None))
            # Never a half deleted sample under the right name.
            shutil.rmtree(old, ignore_errors=True)
            if root.exists():
                root.rename(old)
            unfinished.rename(root)
        finally:
            shutil.rmtree(unfinished, ignore_errors=True)
            shutil.rmtree(old, ignore_errors=True)
    return True


def find_fault(root: str | Path, seed: int = 0, sizes: SampleSizes | None = None) -> str | None:
    """Why the folder is not exactly this sample, every byte of it read; None if it is."""
    root = Path(root)
    try:
        manifest = read_manifest(root)
    except SampleError as error:
        return str(error)
    expected = _header(seed, sizes or SampleSizes())
    for key, value in expected.items():
        if manifest.get(key) != value:
            return f'its {key} is {manifest.get(key)}, not {value}'
    files, digest = tree_digest(root)
    if files != manifest.get('files'):
        return f'it holds {files} files, not {manifest.get("files")}'
    return None if digest == manifest.get('sha256') else 'a file differs from what was written'


def read_manifest(root: str | Path) -> dict[str, Any]:
    """The manifest of a sample.

    Raises:
        SampleError: there is none, or it cannot be read.
    """
    path = Path(root) / MANIFEST
    try:
        return read_json(path)
    except FileNotFoundError as error:
        raise SampleError(f'it has no {MANIFEST}') from error
    except (OSError, ValueError) as error:
        raise SampleError(f'its {MANIFEST} cannot be read') from error


def tree_digest(root: str | Path) -> tuple[int, str]:
    """Number of files below ``root`` and a sha256 over their names and bytes, without manifest."""
    root = Path(root)
    files = sorted(
        (path.relative_to(root).as_posix(), path) for path in root.rglob('*') if path.is_file()
    )
    total = hashlib.sha256()
    for name, path in files:
        if name != MANIFEST:
            total.update(f'{name}\0{sha256_of(path)}\n'.encode())
    return sum(name != MANIFEST for name, _ in files), total.hexdigest()


def _header(seed: int, sizes: SampleSizes) -> dict[str, Any]:
    return {'version': SAMPLE_VERSION, 'seed': seed, 'images': asdict(sizes)}


def _write_all(
    root: Path, seed: int, sizes: SampleSizes, workers: int, progress: Progress
) -> None:
    # Imported late: drawing is not needed to check a sample.
    from comad.data.sample.contact_sheet import draw_contact_sheet

    scenes = {split: SceneRenderer(split, seed) for split in SPLITS}
    digits = {split: DigitRenderer(split, seed) for split in SPLITS}
    single = dict(zip(SPLITS, (sizes.imagenet_train, sizes.imagenet_val), strict=True))
    several = dict(zip(SPLITS, (sizes.scenes_train, sizes.scenes_val), strict=True))
    parts = [
        Part(kind, split, range(start, min(start + CHUNK, count)))
        for kind, counts in (('imagenet', single), ('scenes', several), ('cifar', single))
        for split, count in counts.items()
        for start in range(0, count, CHUNK)
    ]
    root.mkdir()
    total, done, drawn = sum(len(part.indices) for part in parts), 0, {}
    for part, result in run_tasks(partial(_write_part, root, scenes, digits), parts, workers):
        drawn[part] = result
        done += len(part.indices)
        progress(done, total)
    for split in SPLITS:
        found = {
            kind: [drawn[part] for part in parts if (part.kind, part.split) == (kind, split)]
            for kind in ('scenes', 'cifar')
        }
        images, instances = (list(chain(*lists)) for lists in zip(*found['scenes'], strict=True))
        write_instances(root, split, images, instances)
        write_cifar(root, split, b''.join(found['cifar']))
    (root / CONTACT_SHEET).write_bytes(encode(draw_contact_sheet(scenes), '.png'))
    files, digest = tree_digest(root)
    manifest = {**_header(seed, sizes), 'files': files, 'sha256': digest}
    write_json(root / MANIFEST, manifest)


def _write_part(
    root: Path,
    scenes: Mapping[str, SceneRenderer],
    digits: Mapping[str, DigitRenderer],
    part: Part,
) -> tuple[Part, Any]:
    """Draw and write a part; what is left to be written of all of them together."""
    if part.kind == 'cifar':
        return part, cifar_bytes(digits[part.split], part.indices)
    write = write_imagenet if part.kind == 'imagenet' else write_scenes
    return part, write(root, part.split, scenes[part.split], part.indices)


def _check_replaceable(root: Path) -> None:
    """Refuse to delete anything that was not written here."""
    if not (root / MANIFEST).is_file():
        raise SampleError(
            f'{root} holds files but no {MANIFEST}: it is no sample; choose another --root'
        )
    foreign = sorted(path.name for path in root.iterdir() if path.name not in (*CONTENT, MANIFEST))
    if foreign:
        raise SampleError(
            f'{root} also holds {foreign[0]}, which is not part of the sample: move it'
        )


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Wait until no other process writes the same sample."""
    with path.open('w') as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        try:
            yield
        finally:
            fcntl.flock(file, fcntl.LOCK_UN)
