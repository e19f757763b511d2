"""Videos as a data set: the official lists, and clips out of mp4 files or folders of frames.

A list has one video a line, entries separated by spaces, no header: ``path label`` of files, as
VideoMAE's lists of both sets, or ``folder frames label`` of folders, as AMD's of
Something-Something.
"""

import os
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from mmengine.registry import DATASETS
from torch.utils.data import Dataset

from comad.data.clips import Indices, build_clip_views, build_sampling
from comad.data.decode import DECODE_ERRORS, decode_opencv, first_line, load_opencv

Decoded = tuple[Indices, dict[int, np.ndarray]]
FRAME = 'img_{:05d}.jpg'
FORMS = {2: 'path label', 3: 'folder frames label'}


class Video(NamedTuple):
    """One line of a list; frames is None where the file itself has to tell."""

    name: str
    frames: int | None
    label: int


def read_list(path: str | Path, classes: int) -> list[Video]:
    """The videos of a list.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: a line of another form than the first one, or a label out of range; one line
            that names it.
    """
    videos: list[Video] = []
    form = 0
    for number, line in enumerate(Path(path).read_text(encoding='utf-8').splitlines(), 1):
        place, entries = f'{path}, line {number}', line.split()
        form = form or len(entries)
        if form not in FORMS or len(entries) != form:
            expected = FORMS.get(form) or ' or '.join(FORMS.values())
            raise ValueError(f'{place}: {line!r:.80} is not of the form "{expected}"')
        numbers = entries[1:]
        if not all(entry.isascii() and entry.isdigit() for entry in numbers):
            raise ValueError(
                f'{place}: {line!r:.80} is not of the form "{FORMS[form]}" with whole numbers'
            )
        frames, label = (None, *map(int, numbers))[-2:]
        if not label < classes:
            raise ValueError(f'{place}: label {label}, expected 0 to {classes - 1}')
        if frames == 0:
            raise ValueError(f'{place}: {entries[0]} has no frames')
        videos.append(Video(entries[0], frames, label))
    if not videos:
        raise ValueError(f'{path}: no video; expected lines "{FORMS[2]}" or "{FORMS[3]}"')
    return videos


def read_file(
    path: str | Path, sampling: Callable[[int], Indices], decode: str = 'opencv'
) -> list[np.ndarray]:
    """Clips (T, H, W, 3) uint8 RGB of a video file, read once from its start to the last frame.

    Args:
        path: the file.
        sampling: from its number of frames to the frames of each clip.
        decode: a name in ``DECODERS``; pixels are the same.

    Raises:
        OSError: it is missing, no video, or cut off before a frame that is wanted.
    """
    if not os.path.isfile(path):
        raise FileNotFoundError(f'{path}: there is no such video')
    clips, frames = DECODERS[decode](path, sampling)
    return _gather(clips, frames)


def _with_opencv(path: str | Path, sampling: Callable[[int], Indices]) -> Decoded:
    cv2 = load_opencv()
    # A worker keeps to its core.
    capture = cv2.VideoCapture(str(path), cv2.CAP_FFMPEG, [cv2.CAP_PROP_N_THREADS, 1])
    try:
        count = int(capture.get(cv2.CAP_PROP_FRAME_COUNT)) if capture.isOpened() else 0
        if count < 1:
            raise OSError(f'{path}: cannot be read as a video')
        clips = sampling(count)
        wanted = set(np.concatenate(clips).tolist())
        frames: dict[int, np.ndarray] = {}
        for index in range(max(wanted) + 1):
            if not capture.grab():
                raise OSError(f'{path}: cut off, frame {index} of {count} cannot be read')
            if index in wanted:
                read, frame = capture.retrieve()
                if not read:
                    raise OSError(f'{path}: frame {index} of {count} cannot be decoded')
                frames[index] = cv2.cvtColor(frame, cv2.COLOR_BGR2RGB)
    finally:
        capture.release()
    return clips, frames


def _with_pyav(path: str | Path, sampling: Callable[[int], Indices]) -> Decoded:
    av = load_pyav()
    try:
        with av.open(str(path)) as container:
            stream = container.streams.video[0]
            # A worker keeps to its core.
            stream.codec_context.thread_count = 1
            if (count := stream.frames) < 1:
                raise OSError(f'{path}: does not state how many frames it has')
            clips = sampling(count)
            wanted = set(np.concatenate(clips).tolist())
            frames: dict[int, np.ndarray] = {}
            for index, frame in zip(range(max(wanted) + 1), container.decode(stream), strict=False):
                if index in wanted:
                    frames[index] = frame.to_ndarray(format='rgb24')
    except (av.FFmpegError, IndexError) as error:
        raise OSError(f'{path}: cannot be read as a video ({first_line(error)})') from error
    if missing := sorted(wanted - frames.keys()):
        raise OSError(f'{path}: cut off, frame {missing[0]} of {count} cannot be read')
    return clips, frames


DECODERS = {'opencv': _with_opencv, 'pyav': _with_pyav}


@cache
def load_pyav() -> Any:
    """PyAV, which the extra ``video`` installs.

    Raises:
        ValueError: it is missing.
    """
    try:
        import av
    except ImportError as error:
        raise ValueError(
            f"decode='pyav': PyAV is missing ({error}); pip install -e '.[video]', or 'opencv'"
        ) from error
    return av


def video_fault(path: str | Path) -> str | None:
    """Why a video file cannot be read to its end, every frame of it decoded; None if it can."""
    try:
        read_file(path, lambda count: [np.array([count - 1])])
    except OSError as error:
        return first_line(error).removeprefix(f'{path}: ')
    return None


def read_frames(
    folder: str | Path, count: int, sampling: Callable[[int], Indices]) -> list[np.ndarray]:
    """The same of a folder with frames ``img_00001.jpg`` and so on.

    Raises:
        OSError: a frame is missing, no image, or of another size than the others.
    """
    clips = sampling(count)
    frames: dict[int, np.ndarray] = {}
    for index in sorted(set(np.concatenate(clips).tolist())):
        path = Path(folder) / FRAME.format(index + 1)
        try:
            frames[index] = decode_opencv(path.read_bytes())
        except FileNotFoundError:
            raise OSError(f'{path}: missing, the list says {count} frames') from None
        except DECODE_ERRORS as error:
            raise OSError(f'{path}: cannot be read as an image ({first_line(error)})') from error
    if len({frame.shape for frame in frames.values()}) > 1:
        raise OSError(f'{folder}: its frames differ in size')
    return _gather(clips, frames)


def _gather(clips: Indices, frames: Mapping[int, np.ndarray]) -> list[np.ndarray]:
    return [np.stack([frames[index] for index in clip.tolist()]) for clip in clips]


@DATASETS.register_module()
class VideoList(Dataset):
    """The videos of a list, a clip or the test views of each.

    Args:
        root: folder that the list's paths are relative to.
        split: 'train', 'val' or another list ``<split>.csv`` in ``root``.
        classes: number of classes; labels go from 0.
        sampling: which frames are read, see `comad.data.clips.Sampling`.
        views: config of a view type of `comad.data.clips`.
        decode: who decodes files, 'opencv' or 'pyav', which the extra ``video`` installs; their
            pixels are the same. Frames in folders are always OpenCV's.

    Raises:
        FileNotFoundError: there is no such list.
        ValueError: a malformed list; unknown options of sampling or views; a decoder that is
            unknown or missing.
    """

    def __init__(
        self,
        root: str | Path,
        split: str = 'train',
        classes: int = 400,
        sampling: Mapping[str, Any] | None = None,
        views: Mapping[str, Any] | None = None,
        decode: str = 'opencv',
    ) -> None:
        if decode not in DECODERS:
            raise ValueError(f'decode={decode!r}: expected {" or ".join(DECODERS)}')
        if decode == 'pyav':
            load_pyav()
        self.decode = decode
        self.sampling = build_sampling(sampling or {'type': 'strided', 'stride': 4})
        self.views = build_clip_views(views or {'type': 'ClipPretrain'})
        self.root, self.split = root, split
        self.videos = read_list(Path(root) / f'{split}.csv', classes)
        self.metainfo = {'classes': tuple(map(str, range(classes)))}

    def __len__(self) -> int:
        return len(self.videos)

    def place(self, index: int) -> str:
        """File or folder of a video, for messages."""
        return str(Path(self.root) / self.videos[index].name)

    def __getitem__(self, index: int) -> dict[str, Any]:
        """``inputs``: (3, T, H, W) uint8, or several such stacked; ``labels``: the class, int.

        Raises:
            OSError: the video cannot be read.
        """
        video, place = self.videos[index], self.place(index)
        if video.frames is None:
            clips = read_file(place, self.sampling, self.decode)
        else:
            clips = read_frames(place, video.frames, self.sampling)
        return {'inputs': self.views(clips), 'labels': video.label}
