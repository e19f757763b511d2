"""Parts of a data set for few labels: seeded shares and SimCLR's lists."""

import random
from collections import Counter

import numpy as np
import pytest
import torch

from comad.data.check.imagenet import imagenet_wnids
from comad.data.imagenet import ImageNetFolder
from comad.data.pack import write_shards
from comad.data.storage import open_storage
from comad.data.subset import keep_classes, read_classes_of, select_subset

SMALL = dict(type='CenterCrop', size=16, resize=16)


@pytest.fixture(scope='module')
def root(tmp_path_factory):
    """20, 10 and 1 empty files in three classes; only names matter."""
    root = tmp_path_factory.mktemp('data')
    for name, count in (('ant', 20), ('bee', 10), ('cat', 1)):
        (root / 'train' / name).mkdir(parents=True)
        for number in range(count):
            (root / 'train' / name / f'{name}_{number}.JPEG').touch()
    return root


def names(storage, subset):
    return [storage.names[index].decode() for index in select_subset(storage, subset)]


@pytest.mark.parametrize(
    ('share', 'counts'),
    [(0.01, (1, 1, 1)), (0.1, (2, 1, 1)), (0.25, (5, 3, 1)), (1, (20, 10, 1))],
)
def test_a_share_is_rounded_per_class_and_at_least_one(root, share, counts):
    drawn = names(open_storage(root, 'train'), dict(share=share, seed=0))
    assert Counter(name[:3] for name in drawn) == dict(
        zip(('ant', 'bee', 'cat'), counts, strict=True)
    )
    assert len(set(drawn)) == len(drawn)


def test_a_draw_depends_on_its_seed_only(root):
    storage = open_storage(root, 'train')
    states = []
    for state in (0, 1):
        random.seed(state), np.random.seed(state), torch.manual_seed(state)
        states.append(names(storage, dict(share=0.3, seed=5)))
    assert states[0] == states[1] != names(storage, dict(share=0.3, seed=6))
    # Written down once: an edit that changes the draw changes what results were measured on.
    drawn = ['ant_1.JPEG', 'ant_12.JPEG', 'bee_8.JPEG', 'cat_0.JPEG']
    assert names(storage, dict(share=0.1)) == drawn
    # Larger shares contain the smaller ones.
    assert set(states[0]) < set(names(storage, dict(share=0.5, seed=5)))


def test_a_list_of_classes_keeps_these_alone_and_numbers_them_anew(root, tmp_path):
    write_shards(root, tmp_path, 'train', images_per_shard=4)
    (tmp_path / 'list.txt').write_text('cat\nant\n')
    kept = [
        keep_classes(open_storage(place, 'train'), str(tmp_path / 'list.txt'))
        for place in (root, tmp_path)
    ]
    for storage in kept:
        assert storage.classes == ('ant', 'cat') and len(storage) == 21
        assert storage.labels.tolist() == [0] * 20 + [1]
        assert 'cat_0.JPEG' in storage.place(20) and storage.read(20) == b''
    assert names(kept[0], dict(share=0.1)) == ['ant_1.JPEG', 'ant_12.JPEG', 'cat_0.JPEG']
    (tmp_path / 'list.txt').write_text('dog\n')
    with pytest.raises(ValueError, match='train has no class dog'):
        keep_classes(open_storage(root, 'train'), str(tmp_path / 'list.txt'))
    with pytest.raises(ValueError, match="'imagenet-10': neither a file nor one of imagenet-100"):
        keep_classes(open_storage(root, 'train'), 'imagenet-10')


def test_imagenet_100_is_a_hundred_of_the_thousand():
    wnids = read_classes_of('imagenet-100')
    assert len(wnids) == 100 and set(wnids) < set(imagenet_wnids())
    # The first and the last line of CMC's file, which is not sorted.
    assert {'n02869837', 'n02090622'} <= set(wnids)


def test_shards_give_the_same_draw_and_list(root, tmp_path):
    write_shards(root, tmp_path, 'train', images_per_shard=4)
    folders, shards = open_storage(root, 'train'), open_storage(tmp_path, 'train')
    # The mark that some editors begin a file with is no part of a name.
    (tmp_path / 'list.txt').write_text('\ufeffcat_0.JPEG\nant_11.JPEG\n\nant_2.JPEG\n')
    for subset in (dict(share=0.2, seed=3), dict(list=str(tmp_path / 'list.txt'))):
        assert names(folders, subset) == names(shards, subset)
    assert names(shards, subset) == ['ant_11.JPEG', 'ant_2.JPEG', 'cat_0.JPEG']


@pytest.mark.parametrize(
    ('lines', 'message'),
    [
        ('ant_1.JPEG\ndog_1.JPEG\ndog_2.JPEG', r'2 of 3 names are not in .*train; dog_1\.JPEG$'),
        ('ant_1.JPEG\nant_1.JPEG', r'ant_1\.JPEG is listed twice$'),
        ('\n', 'no file names; expected one per line'),
        ('x' * 300, '1 of 1 names are not in'),
    ],
)
def test_a_list_with_other_names_is_refused(root, tmp_path, lines, message):
    (tmp_path / 'list.txt').write_text(lines)
    with pytest.raises(ValueError, match=message) as error:
        names(open_storage(root, 'train'), dict(list=tmp_path / 'list.txt'))
    assert str(error.value).startswith(f'{tmp_path}/list.txt: ')


def test_a_name_in_two_classes_is_ambiguous(tmp_path):
    for name in ('ant', 'bee'):
        (tmp_path / 'train' / name).mkdir(parents=True)
        (tmp_path / 'train' / name / '1.jpg').touch()
    (tmp_path / 'list.txt').write_text('1.jpg')
    with pytest.raises(ValueError, match=r'1 of 1 names are in more than one class of .*; 1\.jpg'):
        names(open_storage(tmp_path, 'train'), dict(list=tmp_path / 'list.txt'))


@pytest.mark.parametrize(
    ('subset', 'message'),
    [
        (dict(share=0), r'subset\.share=0: expected a share above 0 and up to 1'),
        (dict(share=1.5), r'subset\.share=1\.5'),
        (dict(share='1%'), r"subset\.share='1%'"),
        (dict(share=True), r'subset\.share=True'),
        (dict(share=0.1, seed=-1), r'subset\.seed=-1: expected 0 or more'),
        (dict(seed=1), r'expected dict\(share=, seed=\) or dict\(list=\)'),
        (dict(share=0.1, list='a.txt'), r'expected dict\(share='),
        ({}, r'expected dict\(share='),
    ],
)
def test_bad_options_stop_before_the_scan(subset, message):
    with pytest.raises(ValueError, match=message):
        ImageNetFolder('nowhere', 'train', SMALL, subset)


def test_items_of_a_subset_keep_their_labels(sample, tmp_path):
    (tmp_path / 'list.txt').write_text('n00000007_7.JPEG\nn00000002_12.JPEG\n')
    part = ImageNetFolder(
        sample / 'imagenet', 'train', SMALL, dict(list=str(tmp_path / 'list.txt'))
    )
    assert [item['labels'] for item in (part[0], part[1])] == [2, 7]
    assert len(part) == 2 and len(part.metainfo['classes']) == 10
    with pytest.raises(IndexError):
        part[2]
    with pytest.raises(FileNotFoundError):
        ImageNetFolder(sample / 'imagenet', 'train', SMALL, dict(list='nowhere.txt'))
