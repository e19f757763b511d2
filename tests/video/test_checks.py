"""Checks of lists and files, what the manifest says of missing videos, and what data are named."""

import json

import numpy as np
import pytest

from comad.data.check.run import check_dataset
from comad.data.check.video import Kinetics400Check, SSV2Check
from comad.data.identity import identify
from comad.data.sample.videos import MOTIONS, VideoSizes, render_clip, write_video_sample
from comad.data.sample.write import SampleError
from comad.data.video import VideoList, read_file, read_frames
from tests.video.conftest import make_clip, write_frames, write_mp4

SHORT = dict(
    sampling=dict(type='strided', frames=4, stride=2), views=dict(type='ClipPretrain', size=16)
)


class ThreeClasses(Kinetics400Check):
    classes = 3
    official = {'train videos': 4, 'val videos': 1, 'train classes': 3, 'val classes': 1}


@pytest.fixture
def root(kinetics):
    write_mp4(kinetics / 'videos/3.mp4', make_clip(12, seed=3))
    with open(kinetics / 'train.csv', 'a') as file:
        file.write('videos/3.mp4 0\n')
    write_mp4(kinetics / 'videos/4.mp4', make_clip(12, seed=4))
    (kinetics / 'val.csv').write_text('videos/4.mp4 1\n')
    return kinetics


def check(root, **options):
    outcome = check_dataset(ThreeClasses(root, **options))
    return outcome.findings.problems, json.loads((root / 'manifest.json').read_text())


def test_whole_data_have_no_problems(root):
    problems, manifest = check(root)
    assert problems == {} and manifest['counts']['train videos'] == 4
    assert manifest['name'] == 'kinetics400' and manifest['files'] == 7


def test_a_stated_share_may_be_missing_and_the_manifest_says_so(root):
    (root / 'videos/3.mp4').unlink()
    problems, _ = check(root)
    assert list(problems) == ['missing videos'] and '1 of 4' in problems['missing videos'][0]
    problems, manifest = check(root, missing_share=0.25)
    assert problems == {} and manifest['counts']['train videos'] == 3
    assert 'train: 1 of 4 videos are missing' in manifest['notes']
    # A list without it is the same data, also for records.
    lines = (root / 'train.csv').read_text().splitlines(keepends=True)
    (root / 'train.csv').write_text(''.join(lines[:3]))
    problems, manifest = check(root, missing_share=0.25)
    assert problems == {} and manifest['counts']['train videos'] == 3


def test_a_test_list_must_not_name_what_is_gone(root):
    (root / 'videos/4.mp4').unlink()
    problems, _ = check(root, missing_share=0.99)
    assert any('take them out of the list' in line for line in problems['missing videos'])


@pytest.mark.parametrize(
    ('damage', 'kind'),
    [
        (lambda root: (root / 'val.csv').write_text('videos/4.mp4 7\n'), 'malformed list'),
        (lambda root: (root / 'val.csv').unlink(), 'missing'),
        (lambda root: (root / 'videos/0.mp4').write_bytes(b'no video'), 'damaged file'),
        (
            lambda root: (root / 'train.csv').write_text(
                ''.join(
                    f'videos/{n}.mp4 {label}\n' for n, label in ((0, 0), (1, 1), (2, 2), (2, 2))
                )
            ),
            'listed twice',
        ),
    ],
)
def test_faults_are_found(root, damage, kind):
    damage(root)
    assert kind in check(root)[0]


def test_frames_are_counted_one_by_one(tmp_path):
    class Two(SSV2Check):
        classes, official = 2, {'train videos': 1, 'val videos': 1}

    for split in ('train', 'val'):
        write_frames(tmp_path / split, make_clip(5))
        (tmp_path / f'{split}.csv').write_text(f'{split} 5 1\n')
    assert check_dataset(Two(tmp_path)).findings.problems == {}
    (tmp_path / 'train/img_00005.jpg').unlink()
    found = check_dataset(Two(tmp_path)).findings
    assert list(found.problems) == ['missing videos']


def test_names_of_data_follow_from_what_was_read(root, monkeypatch):
    data = VideoList(root, classes=3, **SHORT)
    assert identify(data).name == root.name and identify(data).images == 4
    monkeypatch.setattr('comad.data.check.video.VIDEO_CHECKS', (ThreeClasses,))
    assert identify(data).name == 'kinetics-400' and identify(data).classes == 3
    (root / 'videos/3.mp4').unlink()
    lines = (root / 'train.csv').read_text().splitlines(keepends=True)
    (root / 'train.csv').write_text(''.join(lines[:3]))
    data = VideoList(root, classes=3, **SHORT)
    assert identify(data).name == root.name
    check(root)
    assert identify(data).name == root.name  # the check found a problem
    check(root, missing_share=0.25)
    named = identify(data)
    assert (named.name, named.images, named.problems) == ('kinetics-400', 3, 0)


def test_the_sample_is_the_same_twice_and_known_as_such(tmp_path):
    sizes = VideoSizes(train=9, val=2)
    roots = [tmp_path / 'a', tmp_path / 'b']
    assert all(write_video_sample(root, sizes=sizes) for root in roots)
    first, second = (json.loads((root / 'manifest.json').read_text()) for root in roots)
    assert first == second and not write_video_sample(roots[0], sizes=sizes)
    data = VideoList(roots[0] / 'ssv2', classes=8, **SHORT)
    assert identify(data).name == 'sample' and len(data) == 9
    (roots[1] / 'ssv2/val.csv').write_text('')
    assert write_video_sample(roots[1], sizes=sizes)
    (tmp_path / 'c').mkdir()
    (tmp_path / 'c/mine').write_text('')
    with pytest.raises(SampleError):
        write_video_sample(tmp_path / 'c', sizes=sizes)
    whole = lambda n: [np.arange(n)]  # noqa: E731
    (mp4,) = read_file(roots[0] / 'kinetics400/videos/train/00003.mp4', whole)
    (frames,) = read_frames(roots[0] / 'ssv2/frames/train/00003', 20, whole)
    clip, digit, motion = render_clip('train', 3)
    assert (
        np.abs(mp4.astype(int) - clip).mean() < 6 and np.abs(frames.astype(int) - clip).mean() < 3
    )
    assert (digit, motion) == (3, 0)


def centre(frame):
    ink = np.clip(frame.astype(float).mean(2) - 90, 0, None)
    rows, columns = np.mgrid[:64, :64]
    return (columns * ink).sum() / ink.sum(), (rows * ink).sum() / ink.sum(), (ink > 0).sum()


def test_motions_are_what_they_are_called():
    for motion, name in enumerate(MOTIONS):
        moved = []
        for repeat in range(4):
            clip, _, label = render_clip('train', motion * 10 + repeat)
            assert label == motion
            first, last = centre(clip[0]), centre(clip[-1])
            moved.append(np.subtract(last, first))
        x, y, area = np.mean(moved, 0)
        if name in ('left', 'right'):
            assert abs(y) < 4 and (x if name == 'right' else -x) > 8
        if name in ('up', 'down'):
            assert abs(x) < 4 and (y if name == 'down' else -y) > 8
        if name in ('grow', 'shrink'):
            assert (area if name == 'grow' else -area) > 60
