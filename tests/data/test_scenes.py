import numpy as np
import pytest

from comad.data.sample.patterns import PATTERNS, draw
from comad.data.sample.scenes import (
    CLASSES,
    MAX_BLOBS,
    SEVERAL_SIZE,
    SINGLE_SIZE,
    SceneRenderer,
)


@pytest.fixture(scope='module')
def renderer():
    return SceneRenderer('train', seed=1)


def extent(mask):
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    return max(rows[-1] - rows[0], columns[-1] - columns[0]) + 1


def test_scenes_do_not_depend_on_the_order_of_drawing(renderer):
    forward = [renderer.several(index) for index in range(6)]
    other = SceneRenderer('train', seed=1)
    backward = [other.several(index) for index in reversed(range(6))][::-1]
    for one, two in zip(forward, backward, strict=True):
        assert one.classes == two.classes
        np.testing.assert_array_equal(one.image, two.image)
        np.testing.assert_array_equal(one.masks, two.masks)


@pytest.mark.parametrize(('split', 'seed'), [('train', 2), ('val', 1)])
def test_seed_and_split_change_the_scene(renderer, split, seed):
    other = SceneRenderer(split, seed).single(4)
    assert (other.image != renderer.single(4).image).mean() > 0.5


def test_an_unknown_split_is_named():
    with pytest.raises(ValueError, match="split='test': expected one of train, val"):
        SceneRenderer('test')


def test_single_scenes_are_two_toned_blobs_on_grey_ground(renderer):
    scenes = [renderer.single(index) for index in range(100)]
    assert [scene.classes for scene in scenes] == [(index % 10,) for index in range(100)]
    sizes = [extent(scene.masks[0]) for scene in scenes]
    assert SINGLE_SIZE[0] * 0.7 < min(sizes) and max(sizes) <= SINGLE_SIZE[1] + 2
    for scene in scenes:
        blob, ground = scene.image[scene.masks[0]], scene.image[~scene.masks[0] & ~scene.border]
        low, high = np.quantile(blob.mean(1), [0.1, 0.9])
        assert low < np.median(ground) < high
        assert high - low > 3 * ground.mean(1).std()


def test_the_mean_tone_does_not_tell_the_class(renderer):
    """Either tone may be the bright one, so that pixels average out within a class."""
    means = [[] for _ in CLASSES]
    for index in range(400):
        scene = renderer.single(index)
        means[index % 10].append(scene.image[scene.masks[0]].mean())
    between, within = np.std([np.mean(one) for one in means]), np.mean([np.std(one) for one in means])
    assert between < within / 2


def test_several_blobs_have_disjoint_masks_and_a_rim(renderer):
    scenes = [renderer.several(index) for index in range(120)]
    counts = np.bincount([len(scene.classes) for scene in scenes], minlength=4)
    assert counts[0] == 0 and counts[1:].min() > 20 and len(counts) == MAX_BLOBS + 1
    assert {kind for scene in scenes for kind in scene.classes} == set(range(10))
    for scene in scenes:
        assert scene.masks.sum(0).max() == 1
        assert scene.masks.sum((1, 2)).min() >= 30
        assert not (scene.border & scene.masks.any(0)).any()
        assert scene.border.sum() > 0
        assert max(extent(mask) for mask in scene.masks) <= SEVERAL_SIZE[1] + 2
        # No blob touches the background: the rim lies between.
        ground = ~(scene.border | scene.masks.any(0))
        blobs = scene.masks.any(0)
        assert not (blobs[1:] & ground[:-1]).any() and not (blobs[:, :-1] & ground[:, 1:]).any()


@pytest.mark.parametrize('name', PATTERNS)
def test_a_pattern_has_two_tones_at_its_period_in_any_turn(name):
    """Both tones take a fair share, edges are soft, and the power lies at the period."""
    shares, powers = [], []
    for seed in range(8):
        share = draw(name, np.random.default_rng(seed), 128, 8.0)
        assert share.dtype == np.float32 and 0 <= share.min() and share.max() <= 1
        shares.append(share.mean())
        spectrum = np.abs(np.fft.fft2(share - share.mean())) ** 2
        radius = np.hypot(*np.meshgrid(*[np.fft.fftfreq(128)] * 2))
        band = (radius > 1 / 30) & (radius < 1 / 2.5)
        powers.append(spectrum[band].sum() / spectrum.sum())
    assert 0.15 < np.mean(shares) < 0.85
    assert np.mean(powers) > 0.7
