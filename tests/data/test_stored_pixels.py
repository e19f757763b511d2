"""One rule for all readers: pixels as they are stored, of 16 bits the higher 8."""

import shutil

import numpy as np
import pytest
import torch
from mmengine.registry import TRANSFORMS, DefaultScope
from PIL import Image

import comad.engine.register  # noqa: F401
from comad.data.check.findings import DEEP, TURNED, File
from comad.data.check.run import inspect
from comad.data.decode import ORIENTATION, decode_opencv, decode_pillow, read_image
from comad.data.imagenet import ImageNetFolder
from comad.data.pack import Reencoding, write_shards
from tests.data.check.examples import check
from tests.resolved import resolved_config

LEAVES = {
    'mmseg': 'seg_configs/upernet_comad_tiny.py',
    'mmdet': 'det_configs/mask_rcnn_comad_tiny.py',
    'mmdet at 640 px': 'det_configs/mae_lite_mask_rcnn_comad_tiny.py',
}


@pytest.fixture(scope='module')
def files(tmp_path_factory):
    """A white upper half that EXIF turns to the side, and a grey ramp of 16 bits."""
    folder = tmp_path_factory.mktemp('images') / 'train' / 'a'
    folder.mkdir(parents=True)
    pixels = np.zeros((48, 64, 3), np.uint8)
    pixels[:24] = 255
    exif = Image.Exif()
    exif[ORIENTATION] = 6
    Image.fromarray(pixels).save(folder / '1.JPEG', exif=exif, quality=95)
    ramp = np.linspace(0, 65535, 48 * 64).astype(np.uint16).reshape(48, 64)
    Image.fromarray(ramp).save(folder / '2.png')
    return folder


def assert_stored(turned, deep):
    """Both as arrays (H, W, 3), channels in any order."""
    assert turned.shape == deep.shape == (48, 64, 3)
    assert turned[:20].min() > 250 and turned[28:].max() < 5
    ramp = np.linspace(0, 65535, 48 * 64).astype(np.uint16).reshape(48, 64)
    np.testing.assert_array_equal(deep, np.repeat((ramp >> 8)[..., None], 3, -1))
    assert deep.mean() == 127.5


@pytest.mark.parametrize('decode', [decode_pillow, decode_opencv, None], ids=['pillow', 'cv2', ''])
def test_decoders_and_figures(files, decode):
    paths = files / '1.JPEG', files / '2.png'
    read = (lambda path: decode(path.read_bytes())) if decode else read_image
    assert_stored(*(np.asarray(read(path)) for path in paths))


@pytest.mark.parametrize('decode', ['pillow', 'opencv'])
@pytest.mark.parametrize('storage', ['folders', 'original shards', 'smaller shards'])
def test_class_folders_and_shards(files, tmp_path, storage, decode):
    root = files.parent.parent
    if storage != 'folders':
        reencoding = Reencoding(short_side=32) if storage == 'smaller shards' else None
        write_shards(root, tmp_path, 'train', reencoding=reencoding)
        root = tmp_path
    side = 32 if storage == 'smaller shards' else 48
    views = dict(type='CenterCrop', size=side, resize=side)
    dataset = ImageNetFolder(root, views=views, decode=decode)
    turned, deep = (dataset[index]['inputs'].to(torch.int16) for index in range(2))
    third = side // 3
    assert turned[:, :third].min() > 240 and turned[:, -third:].max() < 15
    assert abs(float(deep.float().mean()) - 127.5) < 1


def loaders(node):
    """Every step that reads an image, of the test at several scales too."""
    if isinstance(node, dict):
        if node.get('type') == 'LoadImageFromFile':
            yield node
        node = list(node.values())
    if isinstance(node, (list, tuple)):
        for value in node:
            yield from loaders(value)


@pytest.mark.parametrize('leaf', LEAVES)
@pytest.mark.parametrize('sample', [False, True], ids=['full', 'sample'])
def test_dense_pipelines(files, leaf, sample):
    cfg = resolved_config(LEAVES[leaf], sample)
    steps = list(loaders(cfg._cfg_dict.to_dict()))
    assert len(steps) >= 3
    with DefaultScope.overwrite_default_scope(cfg.default_scope):
        for step in steps:
            load = TRANSFORMS.build(dict(step))
            read = [load({'img_path': str(files / name)})['img'] for name in ('1.JPEG', '2.png')]
            assert_stored(*read)


def test_the_check_tells_of_both_and_calls_neither_a_problem(files, sample, tmp_path):
    imagenet = shutil.copytree(sample / 'imagenet', tmp_path / 'imagenet')
    place = min(path for path in (imagenet / 'train').iterdir() if path.is_dir())
    for name, copy in (('1.JPEG', '0.JPEG'), ('2.png', '1.png')):
        max(place.iterdir()).unlink()
        shutil.copy(files / name, place / copy)
    outcome = check(imagenet)
    assert outcome.findings.problems == {}
    assert outcome.findings.remarks == {
        TURNED: [f'train/{place.name}/0.JPEG'],
        DEEP: [f'train/{place.name}/1.png'],
    }
    assert f'  train/{place.name}/0.JPEG' in outcome.lines()
    assert (imagenet / 'check.txt').read_text().splitlines() == [
        f'{TURNED}: train/{place.name}/0.JPEG',
        f'{DEEP}: train/{place.name}/1.png',
    ]


def test_what_is_no_image_is_told_without_an_address(tmp_path):
    for data, reason in ((b'', 'is empty'), (b'text', "begins with b'text'")):
        (tmp_path / 'a.JPEG').write_bytes(data)
        error = inspect(File('a', str(tmp_path / 'a.JPEG'))).error
        assert reason in error and '0x' not in error


def test_postscript_is_given_to_no_interpreter(tmp_path):
    (tmp_path / 'a.jpg').write_bytes(b'%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EOF\n')
    with pytest.raises(OSError, match='no image'):
        read_image(tmp_path / 'a.jpg')
