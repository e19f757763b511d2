"""The sample's handwritten digits: which scans a split draws, and how."""

import numpy as np
import pytest
from sklearn.datasets import load_digits

from comad.data.sample import digits
from comad.data.sample.digits import DigitRenderer, split_digits


def test_splits_are_disjoint_complete_and_stratified():
    target = load_digits().target
    train, val = split_digits('train', 5), split_digits('val', 5)
    both = np.concatenate([*train, *val])
    assert sorted(both.tolist()) == list(range(1797))
    for digit in range(10):
        assert set(target[train[digit]]) == set(target[val[digit]]) == {digit}
        share = len(val[digit]) / (len(val[digit]) + len(train[digit]))
        assert share == pytest.approx(0.25, abs=0.005)


def test_another_seed_holds_other_handwriting_out():
    first, second = (set(np.concatenate(split_digits('val', seed))) for seed in (0, 1))
    assert 0.1 < len(first & second) / len(first) < 0.4


def test_unknown_split_is_named():
    with pytest.raises(ValueError, match="split='test': expected one of train, val"):
        split_digits('test')


def test_a_validation_image_draws_only_held_out_scans(monkeypatch):
    drawn = []
    renderer = DigitRenderer('val', seed=2)
    scans = {scan.tobytes(): index for index, scan in enumerate(renderer.ink)}
    draw = digits._draw
    monkeypatch.setattr(
        digits,
        '_draw',
        lambda scan, *args: drawn.append(scans[scan.tobytes()]) or draw(scan, *args),
    )
    for index in range(120):
        renderer.image(index)
    assert len(set(drawn)) > 80
    assert set(drawn) <= set(np.concatenate(split_digits('val', 2)))


def test_digits_are_bright_on_dark_ground_and_drawn_in_any_order():
    renderer, other = DigitRenderer('train', seed=1), DigitRenderer('train', seed=1)
    images = [renderer.image(index) for index in range(20)]
    again = [other.image(index) for index in reversed(range(20))][::-1]
    np.testing.assert_array_equal(images, again)
    for image in images:
        gray = image.mean(2)
        assert 40 < np.median(gray) < 62 and np.quantile(gray, 0.98) > 150
