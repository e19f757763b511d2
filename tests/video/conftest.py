"""Small videos on disk."""

import cv2
import numpy as np
import pytest


def make_clip(frames, height=40, width=56, seed=0):
    """(T, H, W, 3) uint8 RGB: a smooth ground; the brightness of a square counts the frames."""
    ground = np.random.default_rng(seed).uniform(60, 120, (5, 7, 3)).astype(np.float32)
    ground = cv2.resize(ground, (width, height)).astype(np.uint8)
    clip = np.repeat(ground[None], frames, 0)
    for number, frame in enumerate(clip):
        frame[8:24, 8:24] = 40 + 180 * number // max(1, frames - 1)
    return clip


def write_mp4(path, clip):
    path.parent.mkdir(parents=True, exist_ok=True)
    size = clip.shape[2], clip.shape[1]
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*'mp4v'), 12, size)
    for frame in clip:
        writer.write(frame[..., ::-1])
    writer.release()
    return path


def write_frames(folder, clip):
    folder.mkdir(parents=True, exist_ok=True)
    for number, frame in enumerate(clip, 1):
        cv2.imwrite(str(folder / f'img_{number:05d}.jpg'), np.ascontiguousarray(frame[..., ::-1]))
    return folder


@pytest.fixture
def kinetics(tmp_path):
    """Three videos of 12 frames in the layout of Kinetics' lists."""
    for number in range(3):
        write_mp4(tmp_path / f'videos/{number}.mp4', make_clip(12, seed=number))
    lines = [f'videos/{number}.mp4 {number}\n' for number in range(3)]
    (tmp_path / 'train.csv').write_text(''.join(lines))
    return tmp_path
