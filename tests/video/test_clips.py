"""Frame indices, crops and augmentation against figures and formulas written out here."""

import random

import cv2
import numpy as np
import pytest
import torch

from comad.data.clips import build_clip_views, build_sampling
from tests.video.conftest import make_clip


def drawn(n, times=60, **fields):
    sampling = build_sampling(fields)
    return [sampling(n)[0].tolist() for _ in range(times)]


def test_pretraining_on_kinetics_has_stride_four_exactly():
    found = drawn(70, type='strided', frames=16, stride=4)
    assert {row[0] for row in found} == set(range(7))  # 0 to n - 64
    assert all(np.diff(row).tolist() == [4] * 15 for row in found)


@pytest.mark.parametrize(
    ('n', 'last'), [(1, 0), (5, 0), (6, 4), (9, 4), (10, 8), (40, 36), (41, 36), (63, 60)]
)
def test_short_videos_repeat_the_last_frame_that_the_stride_reaches(n, last):
    (row,) = set(map(tuple, drawn(n, 5, type='strided', frames=16, stride=4)))
    assert row == tuple(min(4 * i, last) for i in range(16))


def test_fine_tuning_on_kinetics_is_even_over_sixty_four_frames():
    found = drawn(67, type='linspace', frames=16, stride=4)
    assert {row[0] for row in found} == {0, 1, 2}  # 0 to n - 65
    for row in found:
        # The last of 0, 64/15, 2 * 64/15, ... is the window's end, which is cut off.
        assert [i - row[0] for i in row] == [64 * i // 15 for i in range(15)] + [63]


def test_shorter_videos_are_padded_with_their_last_frame():
    (row,) = set(map(tuple, drawn(20, 5, type='linspace', frames=16, stride=4)))
    assert row == (0, 5, 10, 15, 19) + (19,) * 11
    (row,) = set(map(tuple, drawn(64, 5, type='linspace', frames=16, stride=4)))
    assert row == tuple(64 * i // 15 for i in range(15)) + (63,)
    assert drawn(3, 1, type='linspace', frames=16, stride=4) == [[2] * 16]
    assert drawn(4, 1, type='linspace', frames=16, stride=4) == [[0] + [3] * 15]


def test_pretraining_on_something_something_spans_thirty_two_frames():
    found = drawn(40, type='linspace', frames=16, stride=2)
    assert {row[0] for row in found} <= set(range(8))
    for row in found:
        assert [i - row[0] for i in row] == [32 * i // 15 for i in range(15)] + [31]


def test_fine_tuning_on_something_something_draws_from_segments():
    found = np.array(drawn(50, 300, type='segments', frames=16))
    assert (found // 3 == np.arange(16)).all()  # segments of 50 // 16 frames
    assert all(set(column) == {3 * i, 3 * i + 1, 3 * i + 2} for i, column in enumerate(found.T))
    assert drawn(15, 1, type='segments', frames=16) == [[0] * 16]


def test_kinetics_views_go_from_end_to_end():
    sampling = build_sampling(dict(type='dense_views', frames=16, stride=4, clips=5))
    found = sampling(300)  # every fourth frame: 75; starts at 0, 14.75, 29.5, 44.25, 59
    assert [clip[0] for clip in found] == [0, 4 * 14, 4 * 29, 4 * 44, 4 * 59]
    assert all(np.diff(clip).tolist() == [4] * 15 for clip in found)
    short = sampling(64)
    assert len(short) == 5 and all(clip.tolist() == list(range(0, 64, 4)) for clip in short)
    assert sampling(10)[4].tolist() == [0, 4] + [8] * 14
    (middle,) = build_sampling(dict(type='dense_views', frames=16, stride=4))(300)
    assert middle.tolist() == list(range(4 * 29, 4 * 29 + 64, 4))


def test_something_something_views_take_turns():
    sampling = build_sampling(dict(type='segment_views', frames=16, clips=2))
    first, second = (clip.tolist() for clip in sampling(40))
    every = sorted([int(2.5 * x) for x in range(16)] + [int(1.25 + 2.5 * x) for x in range(16)])
    assert first == every[0::2] and second == every[1::2] and first[:3] == [0, 2, 5]
    one = build_sampling(dict(type='segment_views', frames=16))(40)[0]
    assert one.tolist() == [int(1.25 + 2.5 * x) for x in range(16)]


@pytest.mark.parametrize(
    ('fields', 'message'),
    [
        (dict(type='random'), "sampling.type='random'"),
        (dict(type='strided', stride=0), 'sampling.stride=0'),
        (dict(type='strided', clips=2), 'draws one clip'),
        (dict(type='segment_views', clips=3), 'has 1 or 2'),
        (dict(type='strided', rate=4), 'sampling.rate: strided takes frames'),
    ],
)
def test_impossible_samplings_are_refused(fields, message):
    with pytest.raises(ValueError, match=message):
        build_sampling(fields)


def test_pretraining_crops_have_the_official_shapes_and_places():
    view = build_clip_views(dict(type='ClipPretrain', size=224))
    boxes = view.boxes(256, 340)
    # 256 x (1, .875, .75, .66), 224 as it is; edges of the same or the neighbouring entry.
    pairs = {(h, w) for _, _, h, w in boxes}
    edges = [256, 224, 192, 168]
    assert pairs == {(a, b) for i, a in enumerate(edges) for b in edges[max(0, i - 1) : i + 2]}
    assert len(boxes) == 10 * 13
    places = {(top, left) for top, left, h, w in boxes if (h, w) == (192, 224)}
    down, right = 16, 29
    assert places == {(a * down, b * right) for a in (0, 2, 4) for b in (0, 2, 4)} | {
        (a * down, b * right) for a in (1, 3) for b in (1, 3)
    }
    assert all(top + h <= 256 and left + w <= 340 for top, left, h, w in boxes)
    # 255 x .875 is 223, which is 224 but for rounding.
    assert (224, 224) in {(h, w) for _, _, h, w in view.boxes(255, 340)}


def test_several_crops_of_one_decoded_clip():
    view = build_clip_views(dict(type='ClipPretrain', size=16, samples=3))
    torch.manual_seed(0)
    found = view([make_clip(4)])
    assert found.shape == (3, 3, 4, 16, 16) and found.dtype == torch.uint8
    assert not torch.equal(found[0], found[1])


def test_one_randaugment_draw_serves_all_frames():
    options = dict(type='ClipTrain', size=32, scale=(1.0, 1.0), flip=0.0, re_prob=0.0)
    view = build_clip_views(options)
    frame = make_clip(3)[1]
    results = set()
    for seed in range(6):
        random.seed(seed), np.random.seed(seed), torch.manual_seed(seed)
        found = view([np.stack([frame] * 4)])
        assert all(torch.equal(found[:, 0], found[:, t]) for t in range(4))
        results.add(found.numpy().tobytes())
        # The generators went on by one draw, not by none.
        random_after = random.getstate()
        random.seed(seed)
        assert random.getstate() != random_after
    assert len(results) == 6


def test_crops_mirrors_and_boxes_are_those_of_the_whole_clip():
    still = np.stack([make_clip(3)[1]] * 4)
    options = dict(type='ClipTrain', size=32, auto_augment=None, flip=0.5, re_prob=0.0)
    torch.manual_seed(1)
    for _ in range(5):
        found = build_clip_views(options)([still])
        assert all(torch.equal(found[:, 0], found[:, t]) for t in range(4))
    random.seed(0), torch.manual_seed(0)
    view = build_clip_views({**options, 're_prob': 1.0, 'flip': 0.0, 'scale': (1.0, 1.0)})
    clean = build_clip_views({**options, 'flip': 0.0, 'scale': (1.0, 1.0)})([still])
    changed = (view([still]) != clean).any(0)  # (T, H, W)
    boxes = set()
    for frame in changed:
        rows, columns = frame.any(1).nonzero(), frame.any(0).nonzero()
        boxes.add((int(rows[0]), int(rows[-1]), int(columns[0]), int(columns[-1])))
    assert len(boxes) == 1 and not torch.equal(view([still])[:, 0], clean[:, 0])


@pytest.mark.parametrize(('height', 'width'), [(40, 56), (56, 40)])
def test_test_views_are_cut_along_the_long_side(height, width):
    clip = make_clip(4, height, width)
    found = build_clip_views(dict(type='ClipTest', size=32, crops=3))([clip, clip[::-1]])
    assert found.shape == (6, 3, 4, 32, 32)
    long = int(32 * 56 / 40)  # 44
    edges = (long, 32) if width > height else (32, long)
    frame = cv2.resize(clip[2], edges, interpolation=cv2.INTER_LINEAR)
    for crop in range(3):
        start = int(crop * (long - 32) / 2)
        part = frame[:, start : start + 32] if width > height else frame[start : start + 32]
        assert np.array_equal(found[crop, :, 2].numpy(), part.transpose(2, 0, 1))
    assert torch.equal(found[3, :, 1], found[0, :, 2])
    one = build_clip_views(dict(type='ClipTest', size=32, crops=1))([clip])
    assert torch.equal(one[0], found[1])


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        (dict(type='CenterCrop'), "views.type='CenterCrop'"),
        (dict(type='ClipTest', flip=0.5), 'views.flip: ClipTest takes size, crops'),
        (dict(type='ClipTest', crops=0), 'views.crops=0'),
        (dict(type='ClipTrain', flip=2), 'views.flip=2'),
        (dict(type='ClipTrain', scale=(0.5, 0.2)), 'views.scale'),
        (dict(type='ClipTrain', interpolation='area'), 'views.interpolation'),
    ],
)
def test_impossible_views_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        build_clip_views(options)
