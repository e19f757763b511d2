import numpy as np
import pytest
from sklearn.datasets import load_digits

from comad.data.sample.scenes import MAX_DIGITS, SEVERAL_SIZE, SINGLE_SIZE, SceneRenderer, split_digits


@pytest.fixture(scope='module')
def renderer():
    return SceneRenderer('train', seed=1)


def extent(mask):
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    return max(rows[-1] - rows[0], columns[-1] - columns[0]) + 1


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


def test_a_validation_scene_draws_only_held_out_scans(monkeypatch):
    drawn = []
    renderer = SceneRenderer('val', seed=2)
    scans = {scan.tobytes(): index for index, scan in enumerate(renderer.ink)}
    import comad.data.sample.scenes as scenes

    draw = scenes._draw
    monkeypatch.setattr(
        scenes,
        '_draw',
        lambda scan, *args: drawn.append(scans[scan.tobytes()]) or draw(scan, *args),
    )
    for index in range(60):
        renderer.single(index)
        renderer.several(index)
    assert len(set(drawn)) > 80
    assert set(drawn) <= set(np.concatenate(split_digits('val', 2)))


def test_scenes_do_not_depend_on_the_order_of_drawing(renderer):
    forward = [renderer.several(index) for index in range(6)]
    other = SceneRenderer('train', seed=1)
    backward = [other.several(index) for index in reversed(range(6))][::-1]
    for one, two in zip(forward, backward, strict=True):
        assert one.digits == two.digits
        np.testing.assert_array_equal(one.image, two.image)
        np.testing.assert_array_equal(one.masks, two.masks)


@pytest.mark.parametrize(('split', 'seed'), [('train', 2), ('val', 1)])
def test_seed_and_split_change_the_scene(renderer, split, seed):
    other = SceneRenderer(split, seed).single(4)
    assert (other.image != renderer.single(4).image).mean() > 0.5


def test_single_scenes_are_bright_digits_on_dark_ground(renderer):
    scenes = [renderer.single(index) for index in range(100)]
    assert [scene.digits for scene in scenes] == [(index % 10,) for index in range(100)]
    sizes = [extent(scene.masks[0]) for scene in scenes]
    assert max(sizes) > 36
    # A scan's ink is smaller than its square; a turned one may be a little larger.
    assert SINGLE_SIZE[0] / 2 < min(sizes) <= max(sizes) <= 1.25 * SINGLE_SIZE[1]
    for scene in scenes:
        ink, ground = scene.masks[0], ~(scene.masks[0] | scene.border)
        assert np.median(scene.image[ink]) > 2 * np.median(scene.image[ground])


def test_several_digits_have_disjoint_masks_and_a_rim(renderer):
    scenes = [renderer.several(index) for index in range(120)]
    counts = np.bincount([len(scene.digits) for scene in scenes], minlength=4)
    assert counts[0] == 0 and counts[1:].min() > 20 and len(counts) == MAX_DIGITS + 1
    assert {digit for scene in scenes for digit in scene.digits} == set(range(10))
    for scene in scenes:
        assert scene.masks.sum(0).max() == 1
        assert scene.masks.sum((1, 2)).min() >= 30
        assert not (scene.border & scene.masks.any(0)).any()
        assert scene.border.sum() > 0
        assert max(extent(mask) for mask in scene.masks) <= 1.25 * SEVERAL_SIZE[1]
        # No digit touches the background: the rim lies between.
        ground = ~(scene.border | scene.masks.any(0))
        ink = scene.masks.any(0)
        assert not (ink[1:] & ground[:-1]).any() and not (ink[:, :-1] & ground[:, 1:]).any()
