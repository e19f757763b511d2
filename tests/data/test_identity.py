"""What a data set is: decided by its classes, number of images and manifest, never by its name."""

import json
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from comad.data.check.imagenet import imagenet_wnids
from comad.data.identity import identify
from comad.data.imagenet import ImageNetFolder
from comad.data.sample.scenes import CLASSES
from comad.engine.exact_data import SeededDataset


def folder(root, classes=('a', 'b'), images=3):
    for split in ('train', 'val'):
        for name in classes:
            (root / split / name).mkdir(parents=True)
            for number in range(images):
                Image.new('RGB', (8, 8)).save(root / split / name / f'{name}_{number}.png')
    return root


class Storage:
    """As many images of as many classes as it says, without files."""

    def __init__(self, root, split, classes, images):
        self.folder, self.classes = root / split, tuple(classes)
        self.labels = np.arange(images) % max(1, len(classes))

    def __len__(self):
        return len(self.labels)


class Folder:
    """`ImageNetFolder` of a `Storage`."""

    def __init__(self, root, split, classes, images):
        self.root, self.split, self.subset = root, split, None
        self.storage = Storage(root, split, classes, images)

    def __len__(self):
        return len(self.storage)


def official(root, split='train', classes=None, images=1_281_167):
    return Folder(root, split, sorted(imagenet_wnids()) if classes is None else classes, images)


def test_imagenet_is_what_has_its_classes_and_images(tmp_path):
    root = tmp_path / 'pictures'
    for split, images in (('train', 1_281_167), ('val', 50_000)):
        found = identify(official(root, split, images=images))
        assert (found.name, found.split, found.classes) == ('imagenet-1k', split, 1000)
        assert (found.images, found.subset, found.manifest) == (images, None, None)


@pytest.mark.parametrize(
    ('split', 'classes', 'images'),
    [
        ('train', None, 1_281_166),
        ('val', None, 1_281_167),
        ('test', None, 50_000),
        ('train', [f'n{number:08}' for number in range(1000)], 1_281_167),
        ('train', ['a', 'b'], 1_281_167),
    ],
)
def test_no_other_data_are_imagenet(tmp_path, split, classes, images):
    assert identify(official(tmp_path / 'imagenet', split, classes, images)).name == 'imagenet'


@pytest.mark.parametrize('name', ['imagenet-1k', 'ade20k', 'coco', 'sample'])
def test_a_folder_cannot_take_the_name_of_a_known_set(tmp_path, name):
    found = identify(ImageNetFolder(folder(tmp_path / name), 'val'))
    assert (found.name, found.classes, found.images) == (f'{name} (other data)', 2, 6)


def test_own_data_have_the_name_of_their_folder_and_the_digest_of_their_check(tmp_path):
    root = folder(tmp_path / 'flowers')
    assert identify(ImageNetFolder(root)).manifest is None
    facts = dict(name='imagenet', digest='a' * 64, problems=2010, content_hashed=True)
    (root / 'manifest.json').write_text(json.dumps(facts))
    found = identify(ImageNetFolder(root))
    assert (found.name, found.manifest, found.problems) == ('flowers', 'a' * 64, 2010)
    (root / 'manifest.json').write_text(json.dumps({**facts, 'content_hashed': False}))
    assert identify(ImageNetFolder(root)).manifest.endswith(' (names and sizes only)')


def test_the_sample_is_known_by_its_manifest_wherever_it_lies(sample):
    digest = json.loads((sample / 'manifest.json').read_text())['sha256']
    found = identify(ImageNetFolder(sample / 'imagenet', 'val'))
    assert (found.name, found.split, found.manifest) == ('sample', 'val', digest)
    assert (found.images, found.classes, found.problems) == (20, len(CLASSES), 0)


def test_wrappers_are_looked_through(sample):
    dataset = ImageNetFolder(sample / 'imagenet', 'val')
    assert identify(SeededDataset(SeededDataset(dataset, 0), 1)) == identify(dataset)


def test_a_subset_is_told_by_its_options_or_its_images(tmp_path):
    root, listing = folder(tmp_path / 'flowers', images=10), tmp_path / 'few.txt'
    drawn = identify(ImageNetFolder(root, subset=dict(share=0.2, seed=3)))
    assert (drawn.subset, drawn.images, drawn.text) == (
        'share 0.2, seed 3',
        4,
        'flowers, share 0.2, seed 3',
    )
    texts = []
    for names in ('a_1.png\nb_2.png\n', 'b_2.png\na_1.png\n', 'a_1.png\nb_3.png\n'):
        listing.write_text(names)
        texts.append(identify(ImageNetFolder(root, subset=dict(list=str(listing)))).subset)
    assert texts[0] == texts[1] != texts[2] and texts[0].startswith('2 listed images #')


class Openmmlab:
    """What mm* data sets hold after reading, by the name of their type."""

    def __init__(self, root, folder, images, classes, indices=None, ann_file='', ids=None):
        self.data_root, self.ann_file, self._indices = str(root), ann_file, indices
        self.data_prefix = {'img_path': f'{root}/{folder}', 'seg_map_path': None}
        self.images, self.metainfo = images, {'classes': tuple(range(classes))}
        if ids is not None:
            self.cat_ids = list(range(ids))

    def __len__(self):
        return self.images


class ADE20KDataset(Openmmlab):
    METAINFO = {'classes': tuple(range(150))}


class CocoDataset(Openmmlab):
    METAINFO = {'classes': tuple(range(80))}


@pytest.mark.parametrize(
    ('dataset', 'expected'),
    [
        (ADE20KDataset('d/ADE', 'images/training', 20_210, 150), ('ade20k', 'train')),
        (ADE20KDataset('d/ADE', 'images/validation', 2000, 150), ('ade20k', 'val')),
        (ADE20KDataset('d/ADE', 'images/validation', 1999, 150), ('ADE', 'val')),
        (ADE20KDataset('d/ADE', 'images/validation', 2000, 11), ('ADE', 'val')),
        (ADE20KDataset('d/ADE', 'images/training', 20_210, 150, indices=9), ('ADE', 'train')),
        (Openmmlab('d/ADE', 'images/training', 20_210, 150), ('ADE', 'train')),
        (CocoDataset('d/x', 'train2017', 118_287, 80, ids=80), ('coco', 'train')),
        (CocoDataset('d/x', 'train2017', 117_266, 80, ids=80), ('coco', 'train')),
        (CocoDataset('d/x', 'val2017', 5000, 80, ids=80), ('coco', 'val')),
        (CocoDataset('d/x', 'val2017', 5000, 80, ids=79), ('x', 'val')),
        (CocoDataset('d/x', 'val2017', 117_266, 80, ids=80), ('x', 'val')),
        (CocoDataset('d/coco', 'val2017', 12, 80, ids=80), ('coco (other data)', 'val')),
        (CocoDataset('d/x', 'val2017', 5000, 80, ann_file='e/a.json', ids=80), ('val2017', 'val')),
    ],
)
def test_dense_data_are_what_has_their_classes_and_images(dataset, expected):
    found = identify(dataset)
    assert (found.name, found.split) == expected


def test_other_classes_of_the_same_number_are_other_data():
    dataset = CocoDataset('d/x', 'val2017', 5000, 80, ids=80)
    dataset.metainfo = {'classes': tuple(range(1, 81))}
    assert identify(dataset).name == 'x'


def test_a_slice_is_a_subset():
    for indices, text in ((9, 'first 9'), (-9, 'last 9')):
        assert identify(ADE20KDataset('d/ADE', 'a/training', 9, 150, indices)).subset == text
    first, other = (identify(ADE20KDataset('d/A', 'b/c', 2, 150, [0, n])).subset for n in (1, 2))
    assert first != other and first.startswith('2 indices #')


def test_any_other_data_set_is_named_after_its_type_or_folder(tmp_path):
    class Pixels(list):
        classes = ('a', 'b', 'c')

    found = identify(Pixels([1, 2]))
    assert (found.name, found.classes, found.images, found.manifest) == ('Pixels', 3, 2, None)
    pixels = Pixels([1])
    pixels.root, pixels.split = str(tmp_path / 'cifar'), 'train'
    found = identify(SimpleNamespace(dataset=pixels))
    assert (found.name, found.split) == ('cifar', 'train')
