"""MAE's crop of the linear probe, against its formula written down once more."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.config import Config
from PIL import Image
from torchvision.transforms import InterpolationMode

from comad.data.crops import SingleTryCrop
from comad.data.views import SingleView, build_views

WIDTH, HEIGHT = 1000, 20


def formula(width, height, scale, seed):
    """Top, left, height, width by NumPy from the four uniform draws of torch's generator."""
    torch.manual_seed(seed)
    share = np.float64(torch.empty(1).uniform_(*scale).item())
    log_ratio = np.float64(torch.empty(1).uniform_(math.log(0.75), math.log(4 / 3)).item())
    pixels = share * width * height
    edges = np.rint([np.sqrt(pixels / np.exp(log_ratio)), np.sqrt(pixels * np.exp(log_ratio))])
    crop = np.minimum(edges, [height, width]).astype(int)
    top = torch.randint(0, height - crop[0] + 1, (1,)).item()
    left = torch.randint(0, width - crop[1] + 1, (1,)).item()
    return top, left, *crop.tolist()


def test_draws_follow_the_formula_where_ten_tries_would_fall_back():
    crop = SingleTryCrop(32, (0.08, 1.0), InterpolationMode.BICUBIC)
    widths = set()
    for seed in range(200):
        torch.manual_seed(seed)
        place = crop.draw(WIDTH, HEIGHT)
        assert place == formula(WIDTH, HEIGHT, (0.08, 1.0), seed)
        widths.add(place[3])
        # sqrt(0.08 * 1000 * 20 * 0.75) = 34.6 px would be the smallest height: always cut to 20.
        assert place[2] == HEIGHT
        assert 35 <= place[3] <= 164
    # torchvision falls back to a central crop of 27 x 20 on such an image, every time.
    assert len(widths) > 80


def test_a_usual_image_is_cropped_as_drawn():
    crop = SingleTryCrop(32, (0.2, 0.5), InterpolationMode.BICUBIC)
    for seed in range(50):
        torch.manual_seed(seed)
        top, left, height, width = crop.draw(400, 300)
        assert (top, left, height, width) == formula(400, 300, (0.2, 0.5), seed)
        assert 0.19 * 120_000 < height * width < 0.51 * 120_000
        assert 0.74 < width / height < 1.35


def test_the_view_shows_the_drawn_part():
    columns = np.tile(np.linspace(0, 255, WIDTH).astype(np.uint8)[None, :, None], (HEIGHT, 1, 3))
    image = Image.fromarray(columns)
    view = SingleView(size=16, scale=(0.08, 1.0), flip=0.0, single_try=True)
    for seed in range(5):
        torch.manual_seed(seed)
        pixels = view(image)
        _, left, _, width = formula(WIDTH, HEIGHT, (0.08, 1.0), seed)
        assert pixels.shape == (3, 16, 16)
        assert pixels.float().mean().item() == pytest.approx(
            columns[0, left : left + width, 0].mean(), abs=1.5
        )


def test_one_pixel_is_the_least():
    torch.manual_seed(0)
    assert SingleTryCrop(8, (0.08, 0.08), InterpolationMode.BILINEAR).draw(1, 1) == (0, 0, 1, 1)


def test_the_linear_probe_uses_it_and_others_do_not():
    linear = Config.fromfile(Path(__file__).parents[2] / 'base_configs/cls_linear.py')
    assert linear.train_dataloader.dataset.views.single_try is True
    assert not SingleView().single_try
    with pytest.raises(ValueError, match=r'views\.single_try=1: expected True or False'):
        build_views(dict(type='SingleView', single_try=1))
