import random

import numpy as np
import pytest
import torch
from PIL import Image, ImageFilter
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as F

from comad.data.views import VIEWS, GaussianBlur, build_views


def noise(width=90, height=70, seed=0):
    data = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(data)


def steps(transform):
    """Class name -> (probability, step) of a composed view."""
    found = {}
    for step in transform.transforms:
        inner = step.transforms[0] if isinstance(step, v2.RandomApply) else step
        found[type(inner).__name__] = (getattr(step, 'p', 1.0), inner)
    return found


CONFIGS = {
    'SingleView': {},
    'TwoViews': {},
    'MultiCrop': dict(num_local=3),
    'TimmTrain': dict(auto_augment='rand-m9-mstd0.5-inc1', re_prob=0.5),
    'CenterCrop': {},
}


def test_every_view_type_is_tested():
    assert set(CONFIGS) == set(VIEWS)


@pytest.mark.parametrize('kind', CONFIGS)
def test_views_are_uint8_and_repeat_under_a_seed(kind):
    views, image = build_views(dict(type=kind, size=64, **CONFIGS[kind])), noise()

    def draw(seed):
        torch.manual_seed(seed)
        random.seed(seed)
        np.random.seed(seed)
        result = views(image)
        return result if isinstance(result, list) else [result]

    first, again, other = draw(1), draw(1), draw(2)
    shapes = {'TwoViews': [64, 64], 'MultiCrop': [64, 64, 24, 24, 24]}.get(kind, [64])
    assert [tuple(view.shape) for view in first] == [(3, size, size) for size in shapes]
    assert all(view.dtype == torch.uint8 for view in first)
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    differ = [not torch.equal(a, b) for a, b in zip(first, other, strict=True)]
    assert all(differ) if kind != 'CenterCrop' else not any(differ)


def test_single_view_is_maes_augmentation():
    """Bit for bit torchvision's, with the same draws."""
    mode = v2.InterpolationMode.BICUBIC
    crop = v2.RandomResizedCrop(48, (0.2, 1.0), (3 / 4, 4 / 3), mode, antialias=True)
    expected = v2.Compose([crop, v2.RandomHorizontalFlip(0.5), v2.PILToTensor()])
    views = build_views(dict(type='SingleView', size=48, scale=(0.2, 1.0)))
    for seed in range(30):
        # Narrow images too, on which ten tries may fail.
        image = noise(40 + 9 * seed, 60, seed)
        torch.manual_seed(seed)
        result, after = views(image), torch.rand(1)
        torch.manual_seed(seed)
        assert torch.equal(result, expected(image))
        assert torch.equal(after, torch.rand(1))


@pytest.mark.parametrize('flip', [0.0, 1.0])
@pytest.mark.parametrize('kind', ['SingleView', 'TwoViews', 'MultiCrop', 'TimmTrain'])
def test_flip_is_a_field_of_every_training_view(kind, flip):
    """On a ramp that brightens to the right, each crop tells whether it was mirrored."""
    ramp = np.tile(np.linspace(0, 120, 80).astype(np.uint8)[None, :, None], (80, 1, 3))
    options = dict(type=kind, size=32, scale=(0.8, 1.0), flip=flip)
    if kind in ('TwoViews', 'MultiCrop'):
        options |= dict(jitter_prob=0.0, solarize_probs=(0, 0))
    views = build_views(options)
    for _ in range(4):
        result = views(Image.fromarray(ramp))
        for view in result if isinstance(result, list) else [result]:
            columns = view.float().mean((0, 1))
            assert (columns[-1] < columns[0]) == bool(flip)


def test_two_views_carry_mocov3s_parameters():
    views = build_views(dict(type='TwoViews'))
    first, second = (steps(transform) for transform in views.transforms)
    common = {
        'RandomCrop': 1.0,
        'ColorJitter': 0.8,
        'Grayscale': 0.2,
        'RandomHorizontalFlip': 0.5,
        'PILToTensor': 1.0,
    }
    assert {name: p for name, (p, _) in first.items()} == {**common, 'GaussianBlur': 1.0}
    assert {name: p for name, (p, _) in second.items()} == {
        **common,
        'GaussianBlur': 0.1,
        'RandomSolarize': 0.2,
    }
    assert second['RandomSolarize'][1].threshold == 128
    for parts in (first, second):
        crop, jitter = parts['RandomCrop'][1], parts['ColorJitter'][1]
        assert (crop.scale, crop.size) == ((0.08, 1.0), 224)
        assert crop.interpolation == v2.InterpolationMode.BILINEAR
        assert jitter.brightness == pytest.approx((0.6, 1.4)) == jitter.contrast
        assert jitter.saturation == pytest.approx((0.8, 1.2))
        assert jitter.hue == pytest.approx((-0.1, 0.1))
        assert parts['GaussianBlur'][1].radius == (0.1, 2.0)


def test_multi_crop_carries_ibots_parameters():
    views = build_views(dict(type='MultiCrop'))
    parts = [steps(transform) for transform in views.transforms]
    assert len(parts) == 12
    assert [p['RandomCrop'][1].size for p in parts] == [224] * 2 + [96] * 10
    assert [p['RandomCrop'][1].scale for p in parts[1:3]] == [(0.32, 1.0), (0.05, 0.32)]
    assert [p['GaussianBlur'][0] for p in parts] == [1.0, 0.1] + [0.5] * 10
    assert ['RandomSolarize' in p for p in parts] == [False, True] + [False] * 10


def test_blur_is_pillows_with_a_radius_from_the_range():
    image = noise()
    torch.manual_seed(5)
    radius = float(torch.empty(1).uniform_(0.5, 3.0))
    torch.manual_seed(5)
    blurred = np.asarray(GaussianBlur((0.5, 3.0))(image))
    assert (blurred == np.asarray(image.filter(ImageFilter.GaussianBlur(radius)))).all()
    assert blurred.std() < 0.8 * np.asarray(image).std()


def test_solarize_inverts_bright_pixels():
    views = build_views(
        dict(type='TwoViews', size=40, scale=(1, 1), interpolation='bilinear', jitter_prob=0,
             gray_prob=0, flip=0, blur_probs=(0, 0), solarize_probs=(0, 1)),
    )  # fmt: skip
    image = noise(40, 40)
    plain, solarized = views(image)
    assert torch.equal(plain, F.pil_to_tensor(image))
    assert torch.equal(solarized, torch.where(plain >= 128, 255 - plain, plain))


def test_center_crop_equals_resizing_and_cutting():
    image = noise(90, 70)
    view = build_views(dict(type='CenterCrop', size=28, resize=32))(image)
    resized = image.resize((int(32 * 90 / 70), 32), Image.Resampling.BICUBIC)
    left = round((resized.width - 28) / 2)
    expected = np.asarray(resized)[2:30, left : left + 28]
    assert np.array_equal(view.permute(1, 2, 0).numpy(), expected)
    assert build_views(dict(type='CenterCrop')).resize == 256


def test_center_crop_leaves_an_image_of_its_size_alone():
    image = noise(64, 64)
    view = build_views(dict(type='CenterCrop', size=64, resize=64))(image)
    assert torch.equal(view, F.pil_to_tensor(image))


def test_random_erasing_writes_noise_of_the_normalised_scale():
    views = build_views(
        dict(type='TimmTrain', size=64, scale=(1, 1), flip=0, color_jitter=None, re_prob=1.0)
    )
    image = Image.new('RGB', (64, 64), (10, 200, 90))
    plain = torch.tensor([10, 200, 90], dtype=torch.uint8).view(3, 1, 1)
    erased = torch.cat([(view := views(image))[:, (view != plain).any(0)] for _ in range(40)], 1)
    assert 0.01 < erased.shape[1] / (40 * 64 * 64) < 0.4
    # N(0, 1) in units of ImageNet's mean and deviation.
    assert erased.float().mean(1).tolist() == pytest.approx([123.7, 116.3, 103.5], abs=3)
    assert erased.float().std(1).tolist() == pytest.approx([58, 57, 57], abs=3)


def test_erasing_follows_its_probability():
    views = build_views(
        dict(type='TimmTrain', size=16, scale=(1, 1), flip=0, color_jitter=None, re_prob=0.25)
    )
    random.seed(0)
    image = Image.new('RGB', (16, 16), (10, 200, 90))
    plain = F.pil_to_tensor(image)
    share = np.mean([not torch.equal(views(image), plain) for _ in range(400)])
    assert share == pytest.approx(0.25, abs=0.06)


@pytest.mark.parametrize(
    ('config', 'line'),
    [
        (dict(type='Single'), "views.type='Single': expected one of SingleView, TwoViews"),
        (dict(size=64), 'views.type=None: expected one of'),
        (
            dict(type='SingleView', crop=3),
            'views.crop: SingleView takes size, interpolation, scale, flip',
        ),
        (dict(type='SingleView', size='64'), "views.size='64': expected a number of pixels"),
        (dict(type='SingleView', scale=(0.5, 2)), r'views.scale=\(0.5, 2\): expected'),
        (dict(type='TwoViews', flip=1.5), 'views.flip=1.5: expected probabilities'),
        (dict(type='MultiCrop', blur_probs=(1, 2)), 'views.blur_probs='),
        (dict(type='TimmTrain', interpolation='cubic'), "'cubic': expected bilinear or bicubic"),
        # What remains if a config only changes the size of an evaluation at 224.
        (dict(type='CenterCrop', size=64, resize=256), 'views.resize=256: expected 64'),
    ],
)
def test_bad_options_give_one_line(config, line):
    with pytest.raises(ValueError, match=line) as error:
        build_views(config)
    assert '\n' not in str(error.value)
