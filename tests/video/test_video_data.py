"""Lists, files, folders, and what is done with those that cannot be read."""

import shutil
import sys

import numpy as np
import pytest
import torch

from comad.data.clips import build_sampling
from comad.data.faults import CheckedImages, UnreadableData
from comad.data.preprocessor import VideoDataPreprocessor
from comad.data.video import VideoList, load_pyav, read_file, read_frames, read_list
from comad.engine.exact_data import SampleIndex, SeededDataset
from tests.video.conftest import make_clip, write_frames, write_mp4

EVERY = build_sampling(dict(type='dense_views', frames=12))
SHORT = dict(
    sampling=dict(type='strided', frames=4, stride=2), views=dict(type='ClipPretrain', size=16)
)


def brightness(clip):
    """The mean of the square that counts the frames."""
    return clip[:, 10:22, 10:22].reshape(len(clip), -1).mean(1)


def test_files_and_folders_give_the_frames_that_are_asked_for(tmp_path):
    clip = make_clip(12)
    (whole,) = read_file(write_mp4(tmp_path / 'a.mp4', clip), EVERY)
    assert whole.shape == clip.shape and whole.dtype == np.uint8
    assert np.abs(brightness(whole) - brightness(clip)).max() < 8
    two = build_sampling(dict(type='dense_views', frames=3, stride=2, clips=2))
    parts = read_file(tmp_path / 'a.mp4', two)  # of 0, 2, ... 10: the first and the last three
    assert np.array_equal(parts[0], whole[[0, 2, 4]])
    assert np.array_equal(parts[1], whole[[6, 8, 10]])
    folder = write_frames(tmp_path / 'b', clip)
    (read,) = read_frames(folder, 12, EVERY)
    assert np.abs(read.astype(int) - clip).mean() < 4
    assert np.abs(brightness(read) - brightness(clip)).max() < 4


@pytest.mark.parametrize(
    ('text', 'message'),
    [
        ('a.mp4 0\nb.mp4\n', 'line 2: .b.mp4. is not of the form "path label"'),
        ('a.mp4 0\nb.mp4 12 1\n', 'line 2: .b.mp4 12 1. is not of the form "path label"'),
        ('a.mp4,0\n', 'line 1'),
        ('a 12 0\nb x 1\n', 'line 2: .b x 1. is not of the form "folder frames label" with'),
        ('a.mp4 -1\n', 'line 1'),
        ('a.mp4 1.0\n', 'line 1'),
        ('a.mp4 3\n', 'line 1: label 3, expected 0 to 2'),
        ('a 2 5\n', 'line 1: label 5'),
        ('a 0 1\n', 'a has no frames'),
        ('a.mp4 1\n\n', 'line 2'),
        ('', 'no video'),
    ],
)
def test_a_mistyped_list_is_one_line(tmp_path, text, message):
    (tmp_path / 'train.csv').write_text(text)
    with pytest.raises(ValueError, match=message) as error:
        read_list(tmp_path / 'train.csv', 3)
    assert '\n' not in str(error.value) and 'train.csv' in str(error.value)


def test_lists_have_the_official_order_of_columns(tmp_path):
    (tmp_path / 'train.csv').write_text('some/folder 37 2\n')
    assert read_list(tmp_path / 'train.csv', 3) == [('some/folder', 37, 2)]
    (tmp_path / 'train.csv').write_text('some/file.mp4 2\n')
    assert read_list(tmp_path / 'train.csv', 3) == [('some/file.mp4', None, 2)]


def test_items_are_clips_with_labels(kinetics):
    data = VideoList(kinetics, classes=3, **SHORT)
    item = data[1]
    assert item['inputs'].shape == (3, 4, 16, 16) and item['inputs'].dtype == torch.uint8
    assert item['labels'] == 1 and len(data) == 3 and len(data.metainfo['classes']) == 3


def test_draws_follow_from_the_place_in_the_run(kinetics):
    options = dict(samples=2, size=16, type='ClipTrain')
    data = SeededDataset(VideoList(kinetics, classes=3, **{**SHORT, 'views': options}), seed=3)

    def item(epoch):
        index = SampleIndex(2)
        index.place = (epoch, 0, 0)
        return data[index]['inputs']

    first = item(0)
    torch.rand(7), np.random.rand(3)
    assert first.shape == (2, 3, 4, 16, 16)
    assert torch.equal(item(0), first) and not torch.equal(item(1), first)


@pytest.mark.parametrize(
    'damage',
    [
        lambda path: path.unlink(),
        lambda path: path.write_bytes(b''),
        lambda path: path.write_bytes(path.read_bytes()[: path.stat().st_size // 2]),
        lambda path: path.write_text('no video'),
    ],
)
def test_unreadable_files_are_named_and_replaced_in_training_alone(kinetics, tmp_path, damage):
    damage(kinetics / 'videos/1.mp4')
    data = VideoList(kinetics, classes=3, **SHORT)
    with pytest.raises(OSError, match=r'videos/1\.mp4'):
        data[1]
    listing = tmp_path / 'bad.txt'
    checked = CheckedImages(data, listing, 0.5)
    assert checked[1]['labels'] == 2  # the next one
    assert listing.read_text().startswith(f'{kinetics}/videos/1.mp4\t')
    with pytest.raises(UnreadableData, match=r'1\.mp4.*nothing is left out or replaced'):
        CheckedImages(data)[1]


@pytest.mark.parametrize('decode', ['opencv', 'pyav'])
def test_a_video_cut_off_within_is_never_another_clip(tmp_path, request, decode):
    if decode == 'pyav':
        request.getfixturevalue('pyav')
    path = write_mp4(tmp_path / 'a.mp4', make_clip(12))
    content = bytearray(path.read_bytes())
    # The table of sample sizes claims twelve frames; their data end early.
    start = content.index(b'mdat')
    assert start < content.index(b'moov')
    half = (content.index(b'moov') - start) // 2
    content[start + 4 + half : content.index(b'moov') - 4] = b''
    path.write_bytes(content)
    with pytest.raises(OSError, match=r'a\.mp4'):
        read_file(path, EVERY, decode)


def test_an_unknown_or_missing_decoder_is_one_line(kinetics, monkeypatch):
    with pytest.raises(ValueError, match="decode='decord': expected opencv or pyav"):
        VideoList(kinetics, classes=3, decode='decord', **SHORT)
    monkeypatch.setitem(sys.modules, 'av', None)
    load_pyav.cache_clear()
    with pytest.raises(ValueError, match=r"'\.\[video\]'"):
        VideoList(kinetics, classes=3, decode='pyav', **SHORT)


@pytest.fixture
def pyav():
    load_pyav.cache_clear()
    return pytest.importorskip('av', reason='PyAV is not installed: the extra video has it')


@pytest.mark.parametrize('size', [(40, 56), (64, 64), (90, 120)])
def test_pyav_gives_the_same_pixels(pyav, tmp_path, size):
    path = write_mp4(tmp_path / 'a.mp4', make_clip(12, *size))
    some = build_sampling(dict(type='dense_views', frames=3, stride=2, clips=2))
    for sampling in (EVERY, some):
        pairs = zip(read_file(path, sampling), read_file(path, sampling, 'pyav'), strict=True)
        assert all(np.array_equal(ours, theirs) for ours, theirs in pairs)


@pytest.mark.parametrize('damage', [lambda data: b'no video', lambda data: data[: len(data) // 2]])
def test_pyav_names_what_it_cannot_read(pyav, kinetics, damage):
    path = kinetics / 'videos/1.mp4'
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(OSError, match=r'videos/1\.mp4'):
        VideoList(kinetics, classes=3, decode='pyav', **SHORT)[1]


def test_missing_frames_are_named(tmp_path):
    folder = write_frames(tmp_path / 'b', make_clip(12))
    (folder / 'img_00007.jpg').unlink()
    with pytest.raises(OSError, match=r'img_00007\.jpg: missing, the list says 12 frames'):
        read_frames(folder, 12, EVERY)
    data = (folder / 'img_00001.jpg').read_bytes()
    (folder / 'img_00007.jpg').write_bytes(data[: len(data) // 2])
    with pytest.raises(OSError, match=r'img_00007\.jpg: cannot be read'):
        read_frames(folder, 12, EVERY)
    write_frames(tmp_path / 'c', make_clip(1, 24, 24))
    shutil.copy(tmp_path / 'c/img_00001.jpg', folder / 'img_00007.jpg')
    with pytest.raises(OSError, match='differ in size'):
        read_frames(folder, 12, EVERY)


def test_the_preprocessor_makes_samples_of_clips_and_leaves_views():
    preprocess = VideoDataPreprocessor(mean=(10.0, 20.0, 30.0), std=(2.0, 4.0, 5.0))
    clips = torch.randint(0, 255, (2, 3, 3, 4, 8, 8), dtype=torch.uint8)
    data = dict(inputs=list(clips), labels=[5, 7])
    trained = preprocess(data, training=True)
    assert trained['inputs'].shape == (6, 3, 4, 8, 8)
    assert trained['labels'].tolist() == [5, 5, 5, 7, 7, 7]
    assert torch.equal(trained['inputs'][4, 1], (clips[1, 1, 1].float() - 20) / 4)
    tested = preprocess(data)
    assert tested['inputs'].shape == clips.shape and tested['labels'].tolist() == [5, 7]
    with pytest.raises(TypeError, match='expected uint8'):
        preprocess(dict(inputs=clips.float()))
