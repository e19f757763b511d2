"""The embedded sample on video: one moving digit per clip, as mp4 files and as folders of frames.

    kinetics400/{train,val}.csv  videos/<split>/*.mp4   ``path label``, the label is the digit
    ssv2/{train,val}.csv         frames/<split>/*/      ``folder frames label``, the label is the
                                                        motion, which a single frame cannot tell

Both hold the same clips. Ground, digit, colours and the pose in the middle of a clip are drawn
alike for all motions. What pretraining shall help with is drawn in wide ranges: colours, which
targets normalised per cube do not see, and poses, without which the place of the ink would tell
the motion. The ground is flat, since noise on it would be most of what such targets ask for.
"""

import shutil
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from backbones.files import read_json, write_json
from comad.data.sample.digits import DIGITS, load_scans, split_digits
from comad.data.sample.layouts import encode
from comad.data.sample.scenes import SIZE, SPLITS
from comad.data.sample.write import MANIFEST, SampleError, locked, tree_digest
from comad.data.video import FRAME

VERSION = 2  # raise it whenever equal seeds and sizes would give other bytes
ROOT = 'data/sample_video'
SETS = ('kinetics400', 'ssv2')
FRAMES, RATE = 20, 12
MOTIONS = ('left', 'right', 'up', 'down', 'grow', 'shrink', 'turn left', 'turn right')
# Colours, 0-255: grey, and the largest change of a channel.
GROUND, GROUND_TINT = (60, 120), 25
INK, INK_TINT = (190, 240), 15
EDGE = (30, 44)  # of the digit's square in the middle of the clip, pixels
PLACE, TILT = 8, 12  # largest offset from the middle there, pixels, and degrees
WAY = (12, 24)  # pixels from the first to the last frame
GROWTH = (1.5, 2.1)  # last size by first size
TURN = (50, 110)  # degrees from first to last

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class VideoSizes:
    """Numbers of clips."""

    train: int = 1200
    val: int = 400

    def __post_init__(self) -> None:
        for name, value in asdict(self).items():
            if value < 1:
                raise ValueError(f'{name}={value}: at least 1 clip is needed')


def render_clip(split: str, index: int, seed: int = 0) -> tuple[np.ndarray, int, int]:
    """A clip (20, 64, 64, 3) uint8 RGB, its digit, and its motion as an index into ``MOTIONS``."""
    rng = np.random.default_rng([seed, SPLITS.index(split), index, 2203])
    digit, motion = index % len(DIGITS), index // len(DIGITS) % len(MOTIONS)
    scan = load_scans()[0][rng.choice(split_digits(split, seed)[digit])]
    glyph = cv2.resize(scan, (SIZE, SIZE), interpolation=cv2.INTER_CUBIC).clip(0, 1)
    ground = rng.uniform(*GROUND) + rng.uniform(-GROUND_TINT, GROUND_TINT, 3)
    ink = rng.uniform(*INK) + rng.uniform(-INK_TINT, INK_TINT, 3)
    edge, tilt = rng.uniform(*EDGE), rng.uniform(-TILT, TILT)
    centre = SIZE / 2 + rng.uniform(-PLACE, PLACE, 2)
    way, growth, turn = rng.uniform(*WAY), rng.uniform(*GROWTH), rng.uniform(*TURN)
    name, frames = MOTIONS[motion], []
    for time in np.linspace(-0.5, 0.5, FRAMES):
        x, y = centre + time * way * np.array(
            {'left': (-1, 0), 'right': (1, 0), 'up': (0, -1), 'down': (0, 1)}.get(name, (0, 0))
        )
        size = edge * growth ** (time * {'grow': 1, 'shrink': -1}.get(name, 0))
        angle = tilt + time * turn * {'turn left': 1, 'turn right': -1}.get(name, 0)
        matrix = cv2.getRotationMatrix2D((SIZE / 2, SIZE / 2), angle, size / SIZE)
        matrix[:, 2] += (x - SIZE / 2, y - SIZE / 2)
        alpha = cv2.warpAffine(glyph, matrix, (SIZE, SIZE), flags=cv2.INTER_AREA)[..., None]
        frames.append(ground + alpha * (ink - ground))
    return np.stack(frames).round().clip(0, 255).astype(np.uint8), digit, motion


def write_video_sample(
    root: str | Path = ROOT,
    seed: int = 0,
    sizes: VideoSizes | None = None,
    force: bool = False,
    progress: Progress | None = None,
) -> bool:
    """Write the clips, unless exactly these are already there; complete or not at all.

    Args:
        root: folder; must not exist, be empty or hold an earlier sample of video.
        seed: of the clips.
        sizes: numbers of clips.
        force: write even if they are there.
        progress: called with clips done and clips in all.

    Returns:
        Whether anything was written.

    Raises:
        SampleError: ``root`` holds something else.
    """
    root, sizes = Path(root).resolve(), sizes or VideoSizes()
    header = {'version': VERSION, 'seed': seed, 'clips': asdict(sizes)}
    root.parent.mkdir(parents=True, exist_ok=True)
    with locked(root.parent / f'.{root.name}.lock'):
        if not force and is_intact(root, header):
            return False
        foreign = {path.name for path in root.iterdir()} if root.exists() else set()
        if foreign and (MANIFEST not in foreign or foreign - {MANIFEST, *SETS}):
            raise SampleError(f'{root} holds what is no sample of video; choose another --root')
        partial = root.parent / f'.{root.name}.partial'
        shutil.rmtree(partial, ignore_errors=True)
        total = sizes.train + sizes.val
        for done, _ in enumerate(_write(partial, seed, sizes), 1):
            if progress:
                progress(done, total)
        files, digest = tree_digest(partial)
        write_json(partial / MANIFEST, {**header, 'files': files, 'sha256': digest})
        shutil.rmtree(root, ignore_errors=True)
        partial.rename(root)
    return True


def is_intact(root: str | Path, header: dict[str, Any]) -> bool:
    """Whether the folder is exactly what was written with this header, every byte of it read."""
    try:
        manifest = read_json(Path(root) / MANIFEST)
    except (OSError, ValueError):
        return False
    stated = {name: manifest.get(name) for name in header}
    return stated == header and tree_digest(root) == (manifest['files'], manifest['sha256'])


def _write(root: Path, seed: int, sizes: VideoSizes) -> Iterator[None]:
    for split, count in zip(SPLITS, (sizes.train, sizes.val), strict=True):
        lines: dict[str, list[str]] = {name: [] for name in SETS}
        (root / f'kinetics400/videos/{split}').mkdir(parents=True)
        for index in range(count):
            clip, digit, motion = render_clip(split, index, seed)
            file, folder = f'videos/{split}/{index:05d}.mp4', f'frames/{split}/{index:05d}'
            _write_mp4(root / 'kinetics400' / file, clip)
            (root / 'ssv2' / folder).mkdir(parents=True)
            for number, frame in enumerate(clip, 1):
                path = root / 'ssv2' / folder / FRAME.format(number)
                path.write_bytes(encode(frame, '.jpg'))
            lines['kinetics400'].append(f'{file} {digit}\n')
            lines['ssv2'].append(f'{folder} {FRAMES} {motion}\n')
            yield
        for name in SETS:
            (root / name / f'{split}.csv').write_text(''.join(lines[name]), encoding='utf-8')


def _write_mp4(path: Path, clip: np.ndarray) -> None:
    code = cv2.VideoWriter_fourcc(*'mp4v')
    writer = cv2.VideoWriter(str(path), code, RATE, (SIZE, SIZE))
    if not writer.isOpened():
        raise SampleError(f'{path}: OpenCV cannot write MPEG-4 here')
    for frame in clip:
        writer.write(np.ascontiguousarray(frame[..., ::-1]))
    writer.release()
