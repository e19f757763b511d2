"""OpenCV's reading against Pillow's: the same pixels, rectangles and refusals."""

import io
import random

import numpy as np
import pytest
import torch
from mmengine.config import Config
from PIL import Image
from torchvision.transforms import InterpolationMode, v2

from comad.data import decode as images
from comad.data.crops import RandomCrop, SingleTryCrop, resize
from comad.data.imagenet import ImageNetFolder
from comad.data.decode import DECODE_ERRORS, decode_opencv, decode_pillow
from comad.data.decode import read_frame
from comad.data.views import build_views

ORIENTATION = 0x0112


def picture(width=300, height=225, seed=0):
    """Smooth colours with edges: what photographs have in common."""
    generator = np.random.default_rng(seed)
    rows, columns = np.mgrid[:height, :width]
    waves = [np.sin(rows / a + columns / b) for a, b in generator.uniform(5, 40, (3, 2))]
    pixels = 127 + 100 * np.stack(waves, -1) + generator.normal(0, 8, (height, width, 3))
    pixels[height // 3 : height // 2, width // 3 : width // 2] = (250, 20, 90)
    return Image.fromarray(pixels.clip(0, 255).astype(np.uint8))


def encoded(image, kind='JPEG', **options):
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def turned(image):
    exif = Image.Exif()
    exif[ORIENTATION] = 6
    return encoded(image, exif=exif)


FORMS = {
    'plain': lambda image: encoded(image),
    'no subsampling': lambda image: encoded(image, subsampling=0, quality=95),
    'progressive': lambda image: encoded(image, progressive=True),
    'grey': lambda image: encoded(image.convert('L')),
    'cmyk': lambda image: encoded(image.convert('CMYK')),
    'png': lambda image: encoded(image, 'PNG'),
    'palette': lambda image: encoded(image.convert('P'), 'PNG'),
    'turned': turned,
    'padded': lambda image: encoded(image) + bytes(3000),
    'odd edges': lambda image: encoded(image.crop((0, 0, 131, 77))),
}


@pytest.mark.parametrize('form', FORMS)
def test_pixels_are_pillows(form):
    data = FORMS[form](picture())
    expected = np.asarray(decode_pillow(data))
    found = decode_opencv(data)
    assert found.dtype == np.uint8 and found.shape == expected.shape
    # Two builds of libjpeg-turbo: equal here, rounding granted.
    assert np.abs(found.astype(int) - expected).max() <= 1


def test_opencv_decodes_what_it_should(monkeypatch):
    def refuse(data):
        raise AssertionError('Pillow was asked')

    monkeypatch.setattr(images, 'decode_pillow', refuse)
    for form in ('plain', 'no subsampling', 'progressive', 'grey', 'turned', 'padded'):
        decode_opencv(FORMS[form](picture()))
    for form in ('cmyk', 'png'):
        with pytest.raises(AssertionError, match='Pillow was asked'):
            decode_opencv(FORMS[form](picture()))


@pytest.mark.parametrize('form', ['plain', 'progressive', 'grey', 'turned', 'cmyk', 'png'])
def test_a_truncated_file_is_refused_wherever_it_ends(form):
    data = FORMS[form](picture())
    for share in (0, 0.01, 0.1, 0.3, 0.5, 0.7, 0.9, 0.97, 0.995):
        with pytest.raises(DECODE_ERRORS):
            decode_opencv(data[: int(share * len(data))])


def test_a_thumbnails_end_is_not_the_images():
    thumbnail = encoded(picture(40, 30))
    segment = b'\xff\xe1' + (len(thumbnail) + 2).to_bytes(2, 'big') + thumbnail
    data = encoded(picture())
    data = data[:2] + segment + data[2:]
    assert np.array_equal(decode_opencv(data), np.asarray(decode_pillow(data)))
    for end in (len(segment) + 2, len(segment) + 300, len(data) // 2):
        with pytest.raises(DECODE_ERRORS):
            decode_opencv(data[:end])


@pytest.mark.parametrize('data', [b'', b'text', b'\xff\xd8', b'\xff\xd8\xff\xd9', bytes(5000)])
def test_what_is_no_image_is_refused(data):
    with pytest.raises(DECODE_ERRORS):
        decode_opencv(data)


def test_hostile_headers_end():
    assert read_frame(b'\xff\xd8' + b'\xff' * 3000) is None
    assert read_frame(b'\xff\xd8\xff\xe0\xff\xff' + bytes(20)) is None
    assert read_frame(b'\xff\xd8' + b'\xff\xe0\x00\x00' * 3000) is None
    assert read_frame(encoded(picture(131, 77))) == (8, 77, 131, 3)


def test_huge_images_are_pillows_to_judge(monkeypatch):
    monkeypatch.setattr(Image, 'MAX_IMAGE_PIXELS', 1000)
    with pytest.raises(Image.DecompressionBombError):
        decode_opencv(encoded(picture()))


@pytest.mark.parametrize('scale', [(0.08, 1.0), (0.9, 1.0)])
def test_rectangles_are_torchvisions(scale):
    theirs = v2.RandomResizedCrop(32, scale)
    ours = RandomCrop(32, scale, InterpolationMode.BICUBIC)
    for seed in range(150):
        width, height = np.random.default_rng(seed).integers(1, 500, 2).tolist()
        torch.manual_seed(seed)
        expected = theirs.make_params([torch.empty(3, height, width)])
        after = torch.rand(1)
        torch.manual_seed(seed)
        place = ours.draw(width, height)
        assert place == tuple(expected[key] for key in ('top', 'left', 'height', 'width'))
        assert torch.equal(torch.rand(1), after)


@pytest.mark.parametrize('mode', ['bilinear', 'bicubic'])
@pytest.mark.parametrize('size', [(100, 110), (224, 224), (400, 380), (120, 200)])
def test_the_resize_differs_from_pillows_by_rounding(mode, size):
    image = picture()
    kind = getattr(Image.Resampling, mode.upper())
    expected = np.asarray(image.resize((size[1], size[0]), kind)).astype(int)
    difference = np.abs(resize(np.asarray(image).copy(), *size, mode) - expected)
    assert difference.max() <= 2 and difference.mean() < 0.05


def drawn(views, image, seed):
    torch.manual_seed(seed)
    random.seed(seed)
    np.random.seed(seed)
    result = views(image)
    return (result if isinstance(result, list) else [result]), torch.rand(1).item()


VIEWS = [
    dict(type='SingleView', size=96),
    dict(type='SingleView', size=96, single_try=True, interpolation='bilinear'),
    dict(type='TwoViews', size=96),
    dict(type='MultiCrop', size=96, num_local=2),
    dict(type='TimmTrain', size=96, auto_augment='rand-m9-mstd0.5-inc1'),
    dict(type='CenterCrop', size=96),
    dict(type='CenterCrop', size=225, resize=225),
]


@pytest.mark.parametrize('config', VIEWS, ids=lambda config: config['type'])
def test_views_of_either_decoder_are_the_same_to_rounding(config):
    views = build_views(config)
    data = encoded(picture(), quality=95)
    for seed in range(6):
        (one, after), (two, after_two) = (
            drawn(views, decode(data), seed) for decode in (decode_pillow, decode_opencv)
        )
        assert after == after_two and len(one) == len(two)
        for left, right in zip(one, two, strict=True):
            assert left.shape == right.shape and right.dtype == torch.uint8
            assert right.is_contiguous() or config['type'] not in ('SingleView', 'CenterCrop')
            # Steps such as solarisation turn one rounding into many grey levels.
            assert (left.float() - right.float()).abs().mean() < 0.5


def test_single_try_flips_where_pillow_does():
    image = picture()
    crop = SingleTryCrop(64, (0.3, 1.0), InterpolationMode.BICUBIC)
    for flip in (0.0, 0.5, 1.0):
        torch.manual_seed(1)
        one = crop.tensor(image, flip)
        torch.manual_seed(1)
        two = crop.tensor(np.asarray(image), flip)
        assert (one.int() - two.int()).abs().max() <= 2


def folder(tmp_path, **files):
    for name, data in files.items():
        path = tmp_path / 'train/cat' / f'{name}.JPEG'
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    return tmp_path


def test_the_data_set_takes_the_decoder_and_names_bad_files(tmp_path):
    whole = encoded(picture())
    root = folder(tmp_path, a=whole, b=whole[:-200], c=encoded(picture(), 'PNG'))
    views = dict(type='CenterCrop', size=64)
    one, two = (ImageNetFolder(root, views=views, decode=name) for name in ('pillow', 'opencv'))
    for index in (0, 2):
        difference = one[index]['inputs'].int() - two[index]['inputs'].int()
        assert difference.abs().max() <= 2
    for data in (one, two):
        with pytest.raises(OSError, match=r'cat/b\.JPEG: cannot be read as an image \(image file'):
            data[1]


def test_other_decoders_and_old_versions_are_refused(tmp_path, monkeypatch):
    with pytest.raises(ValueError, match="decode='turbo': expected pillow or opencv"):
        ImageNetFolder(tmp_path / 'nowhere', decode='turbo')
    import cv2

    monkeypatch.delattr(cv2, 'IMREAD_COLOR_RGB')
    images.load_opencv.cache_clear()
    with pytest.raises(ValueError, match="decode='opencv': OpenCV is .*, expected 4.11 or later"):
        ImageNetFolder(tmp_path / 'nowhere', decode='opencv')


def test_opencv_keeps_to_one_thread():
    import cv2

    images.load_opencv.cache_clear()
    cv2.setNumThreads(2)
    decode_opencv(encoded(picture(8, 8)))
    assert cv2.getNumThreads() == 1


def test_the_recipes_read_with_pillow():
    for name in ('pretrain_default', 'cls_linear', 'cls_finetune', 'cls_knn'):
        config = Config.fromfile(f'base_configs/{name}.py')
        assert config.to_dict().get('train_dataloader', {}).get('dataset', {}).get('decode') in (
            None,
            'pillow',
        )
