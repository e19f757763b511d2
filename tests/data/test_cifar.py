"""CIFAR-100's binary version: reading, identity, the check, the sample's digits."""

import shutil

import numpy as np
import pytest

from comad.data.check import run
from comad.data.check.cifar100 import CIFAR100Check
from comad.data.cifar import CIFAR100
from comad.data.cifar_files import RECORD
from comad.data.identity import identify

CENTRE = dict(type='CenterCrop', size=32, resize=32)


@pytest.fixture
def cifar(sample, tmp_path):
    return shutil.copytree(sample / 'cifar-100-binary', tmp_path / 'cifar-100-binary')


def write(folder, split, labels, classes=100, seed=0):
    generator = np.random.default_rng(seed)
    records = generator.integers(0, 256, (len(labels), RECORD), dtype=np.uint8)
    records[:, 0], records[:, 1] = np.asarray(labels) % 20, labels
    folder.mkdir(exist_ok=True)
    records.tofile(folder / split)
    (folder / 'fine_label_names.txt').write_text('\n'.join(f'c{k:02d}' for k in range(classes)))
    (folder / 'coarse_label_names.txt').write_text('\n'.join(f's{k:02d}' for k in range(20)))
    return records


def test_records_are_labels_and_planes(tmp_path):
    records = write(tmp_path, 'train.bin', [7, 99, 0])
    dataset = CIFAR100(tmp_path, views=CENTRE, with_index=True)
    assert len(dataset) == 3 and dataset.labels.tolist() == [7, 99, 0]
    item = dataset[1]
    assert (item['labels'], item['index']) == (99, 1)
    # What has no memory takes none: pretraining and transfers read images and labels.
    assert set(CIFAR100(tmp_path, views=CENTRE)[1]) == {'inputs', 'labels'}
    # Red, green and blue planes, row by row.
    assert np.array_equal(item['inputs'].numpy().reshape(-1), records[1, 2:])


def test_views_enlarge_the_images(cifar):
    views = dict(type='TimmTrain', size=64, interpolation='random')
    assert CIFAR100(cifar, views=views)[0]['inputs'].shape == (3, 64, 64)
    val = CIFAR100(cifar, 'val', dict(type='CenterCrop', size=224, resize=248))
    assert val[3]['inputs'].shape == (3, 224, 224)


def test_the_sample_holds_digits(sample):
    dataset = CIFAR100(sample / 'cifar-100-binary', views=CENTRE)
    assert dataset.labels.tolist() == [i % 10 for i in range(30)]
    assert dataset.records[:, 0].tolist() == [i % 2 for i in range(30)]
    assert dataset[4]['inputs'].float().std() > 20  # ink on a dark ground
    told = identify(dataset)
    assert (told.name, told.split, told.images, told.classes) == ('sample', 'train', 30, 10)


def test_only_the_whole_data_have_their_name(tmp_path):
    write(tmp_path / 'mine', 'test.bin', np.repeat(np.arange(100), 100))
    assert identify(CIFAR100(tmp_path / 'mine', 'val', CENTRE)).name == 'cifar-100'
    write(tmp_path / 'mine', 'test.bin', np.arange(100))
    assert identify(CIFAR100(tmp_path / 'mine', 'val', CENTRE)).name == 'mine'


def test_files_that_are_none_are_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match='fine_label_names.txt; expected train.bin'):
        CIFAR100(tmp_path, views=CENTRE)
    write(tmp_path, 'train.bin', [1, 2])
    with pytest.raises(FileNotFoundError, match='missing data: .*test.bin'):
        CIFAR100(tmp_path, 'val', CENTRE)
    with (tmp_path / 'train.bin').open('ab') as file:
        file.write(b'x')
    with pytest.raises(ValueError, match='6,149 bytes, no whole number of records of 3074'):
        CIFAR100(tmp_path, views=CENTRE)
    write(tmp_path, 'train.bin', [1, 3], classes=3)
    with pytest.raises(ValueError, match='the label 3, but 3 classes are named'):
        CIFAR100(tmp_path, views=CENTRE)


def test_the_check_finds_what_is_wrong(tmp_path):
    expected = {'train images': 200, 'val images': 100, 'classes': 100, 'superclasses': 20}
    expected |= {'train images per class': 2, 'val images per class': 1}
    folder = tmp_path / 'cifar'
    write(folder, 'train.bin', np.repeat(np.arange(100), 2))
    write(folder, 'test.bin', np.arange(100))
    outcome = run.check_dataset(CIFAR100Check(folder, expected))
    assert outcome.findings.total == 0 and outcome.files == 4
    assert (folder / 'manifest.json').is_file()
    write(folder, 'test.bin', [*range(99), 120])
    (folder / 'train.bin').unlink()
    found = run.check_dataset(CIFAR100Check(folder, expected)).findings.problems
    assert set(found) == {'missing', 'labels', 'wrong count'}
    assert found['labels'] == ['val: label 120 of 100 classes']
    assert 'val, class 99: 0 images, expected 1' in found['wrong count']


def test_the_official_numbers_are_those_of_the_files():
    assert 50_000 * RECORD == 153_700_000 and 10_000 * RECORD == 30_740_000
    assert CIFAR100Check.official['train images'] == 50_000
