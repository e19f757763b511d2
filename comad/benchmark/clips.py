"""Clips per second that one core reads, decodes and crops, by reader: `benchmark.py data --clips`.

A video of Kinetics' length and size, 300 frames of 320 x 240 px, is decoded once for the four
crops of the pretraining recipe. OpenCV writes MPEG-4 part 2 and no H.264, which the real files are
in; frames in folders are JPEG, of which only those that are wanted are read.
"""

import argparse
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch

from comad.benchmark.data import Reader, measure, summarize
from comad.benchmark.data_report import conditions, table
from comad.benchmark.timing import threads
from comad.data.video import FRAME, VideoList, load_pyav

FRAMES, HEIGHT, WIDTH, RATE = 300, 240, 320, 30
VIDEOS = 4  # that differ; they are read over and over
SAMPLES = 4
SAMPLING = dict(type='strided', frames=16, stride=4)


def run(args: argparse.Namespace) -> int:
    """Measure, print the table and the conditions; returns the exit status.

    Raises:
        ValueError: an option that is one of images alone.
    """
    for name in ('compare', 'root', 'workers'):
        if getattr(args, name):
            raise ValueError(f'--clips takes no --{name}: it reads generated videos on one core')
    with tempfile.TemporaryDirectory(prefix='comad-benchmark-') as folder:
        found = measured(Path(folder), args.images, args.rounds)
    known = {**conditions(), 'workers': 0, 'rounds': args.rounds, 'images': args.images}
    missing = found['data']['missing']
    result = {'conditions': known | found['data'], 'ways': found['ways']}
    sys.stdout.write('\n'.join([table(result), *missing]) + '\n')
    if args.json:
        Path(args.json).write_text(json.dumps(result, indent=1) + '\n', encoding='utf-8')
    return 0


def measured(root: Path, videos: int, rounds: int) -> dict[str, Any]:
    """Clips per second of every reader, of ``videos`` generated videos in each round.

    Returns:
        ``ways``: see `summarize`; ``data``: what was read, and which readers are missing.
    """
    with threads(1):
        readers, missing = prepare(root, videos)
        seconds = measure(readers, videos, rounds, 0)
        count = torch.get_num_threads()
    ways = summarize(seconds, videos, readers, None)
    for way in ways:
        for name in ('images_per_second', 'slowest', 'fastest'):
            way[name] *= SAMPLES
    data = {
        'unit': 'clips',
        'data': f'{VIDEOS} generated videos of {FRAMES} frames, {WIDTH} x {HEIGHT} px, '
        f'{SAMPLES} clips of each decode',
        'mean_kb': readers['mp4, opencv'].mean_bytes / 1000,
        'missing': missing,
        'threads': count,
    }
    return {'ways': ways, 'data': data}


def prepare(root: Path, count: int) -> tuple[dict[str, Reader], list[str]]:
    """Write the videos; the readers of a list of ``count``, and why others are not measured."""
    files = [_write_video(root, number) for number in range(VIDEOS)]
    names = [number % VIDEOS for number in range(count)]
    (root / 'files.csv').write_text(''.join(f'{n}.mp4 0\n' for n in names))
    (root / 'folders.csv').write_text(''.join(f'{n} {FRAMES} 0\n' for n in names))
    views = dict(type='ClipPretrain', size=224, samples=SAMPLES)
    known: dict[str, Any] = dict(root=root, classes=1, sampling=SAMPLING, views=views)
    sizes = float(np.mean([path.stat().st_size for path in files]))
    readers = {'mp4, opencv': Reader(VideoList(split='files', **known), sizes)}
    missing = []
    try:
        load_pyav()
    except ValueError as error:
        missing.append(str(error))
    else:
        readers['mp4, pyav'] = Reader(VideoList(split='files', decode='pyav', **known), sizes)
    frames = sum(path.stat().st_size for path in root.glob('*/*.jpg')) / VIDEOS
    readers['folders of frames'] = Reader(VideoList(split='folders', **known), frames)
    return readers, missing


def _write_video(root: Path, number: int) -> Path:
    """Smooth noise that wanders, as mp4 and as frames."""
    rng = np.random.default_rng(number)
    spread = (2 * WIDTH, 2 * HEIGHT)
    fine, coarse = (
        cv2.resize(rng.normal(0, scale, (*shape, 3)), spread, interpolation=cv2.INTER_CUBIC)
        for scale, shape in ((20, (60, 80)), (45, (6, 8)))
    )
    ground = (110 + fine + coarse).clip(0, 255).astype(np.uint8)
    path, folder = root / f'{number}.mp4', root / str(number)
    folder.mkdir(parents=True)
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*'mp4v'), RATE, (WIDTH, HEIGHT))
    if not writer.isOpened():
        raise OSError(f'{path}: OpenCV cannot write MPEG-4 here')
    for index in range(FRAMES):
        top, left = (int(90 * (1 + np.sin(index / pace))) for pace in (31, 47))
        frame = ground[top : top + HEIGHT, left : left + WIDTH]
        writer.write(frame)
        cv2.imwrite(str(folder / FRAME.format(index + 1)), frame)
    writer.release()
    return path
