import shutil

import pytest
import torch
from mmengine.config import ConfigDict
from mmengine.registry import DATASETS

from comad.data.imagenet import ImageNetFolder
from comad.data.decode import read_image


def test_items_are_views_with_the_label_of_their_folder(sample):
    config = ConfigDict(
        type='ImageNetFolder', root=str(sample / 'imagenet'), split='val',
        views=dict(type='TwoViews', size=32),
    )  # fmt: skip
    data = DATASETS.build(config)
    assert len(data) == 20
    assert [data[index]['labels'] for index in range(20)] == [i // 2 for i in range(20)]
    assert data.metainfo['classes'] == tuple(f'n{digit:08d}' for digit in range(10))
    first, second = data[5]['inputs']
    assert first.shape == second.shape == (3, 32, 32)


def test_undisturbed_view_is_the_decoded_file(sample):
    data = ImageNetFolder(sample / 'imagenet', 'train', dict(type='CenterCrop', size=64, resize=64))
    path, label = data.storage.path(7), data.storage.labels[7]
    pixels = torch.tensor(list(read_image(path).tobytes())).view(64, 64, 3)
    assert torch.equal(data[7]['inputs'].permute(1, 2, 0), pixels.to(torch.uint8))
    assert f'n{label:08d}' in path


@pytest.fixture
def folder(tmp_path):
    """Two classes in both splits; the train split can be harmed."""
    for split in ('train', 'val'):
        for name in ('cat', 'dog'):
            (tmp_path / split / name).mkdir(parents=True)
            (tmp_path / split / name / '1.JPEG').write_bytes(b'no image')
    return tmp_path


def one_line(error):
    return str(error.value).splitlines()


def test_missing_root_names_path_layout_and_the_sample(tmp_path):
    with pytest.raises(FileNotFoundError) as error:
        ImageNetFolder(tmp_path / 'imagenet', 'val')
    (line,) = one_line(error)
    assert f'missing data: {tmp_path}/imagenet/val' in line
    assert '<class>/*.JPEG' in line and '--sample' in line


def test_missing_class_folders_are_named(tmp_path):
    (tmp_path / 'train').mkdir()
    with pytest.raises(ValueError, match='train: no class folders'):
        ImageNetFolder(tmp_path)


def test_empty_class_folder_is_named(folder):
    (folder / 'train/dog/1.JPEG').unlink()
    with pytest.raises(ValueError) as error:
        ImageNetFolder(folder)
    assert one_line(error) == [f'{folder}/train/dog: the class folder has no images']


def test_splits_with_other_classes_are_refused(folder):
    shutil.move(folder / 'val/cat', folder / 'val/bird')
    with pytest.raises(ValueError, match='class folder bird is in val but not in train'):
        ImageNetFolder(folder, 'train')
    with pytest.raises(ValueError, match='class folder bird is in val but not in train'):
        ImageNetFolder(folder, 'val')


@pytest.mark.parametrize('split', ['train', 'val'])
def test_a_validation_set_without_class_folders_is_told_by_its_loose_images(folder, split):
    for image in list((folder / 'val').glob('*/*')):
        image.rename(folder / 'val' / f'{image.parent.name}_{image.name}')
    for name in ('cat', 'dog'):
        (folder / 'val' / name).rmdir()
    with pytest.raises(ValueError, match=f'^{folder}/val: no class folders, but 2 images directly'):
        ImageNetFolder(folder, split)


def test_unreadable_image_is_named(folder, sample):
    data = ImageNetFolder(folder)
    with pytest.raises(OSError) as error:
        data[1]
    (line,) = one_line(error)
    assert f'{folder}/train/dog/1.JPEG: cannot be read as an image' in line
    # A file that breaks off in the middle.
    whole = (sample / 'imagenet/train/n00000000/n00000000_0.JPEG').read_bytes()
    (folder / 'train/cat/1.JPEG').write_bytes(whole[: len(whole) // 2])
    with pytest.raises(OSError, match='cat/1.JPEG: cannot be read'):
        data[0]


def test_unknown_view_options_stop_before_the_scan(tmp_path):
    with pytest.raises(ValueError, match=r'views\.sizes: SingleView takes size'):
        ImageNetFolder(tmp_path / 'nowhere', views=dict(type='SingleView', sizes=64))
