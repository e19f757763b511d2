import json
import os
import shutil

import pytest

from comad.data.check import imagenet as module
from comad.data.check.imagenet import imagenet_wnids
from comad.data.pack import write_shards
from tests.data.check.examples import IMAGES, check, problems

FIRST = 'train/n00000000/n00000000_0.JPEG'


def shards_of(root):
    out = root.parent / 'shards'
    for split in ('train', 'val'):
        write_shards(root, out, split, images_per_shard=8)
    return out


def test_whole_folders_and_their_shards_have_one_digest(imagenet):
    manifests = []
    for root in (imagenet, shards_of(imagenet)):
        outcome = check(root, workers=2)
        assert outcome.findings.problems == {}
        assert outcome.summary() == f'{root}: no problems; {root}/manifest.json'
        manifests.append(json.loads((root / 'manifest.json').read_text()))
    folders, shards = manifests
    assert folders['digest'] == shards['digest'] != folders['names_digest']
    assert folders['counts'].items() < IMAGES.items()
    assert (folders['files'], folders['content_hashed'], folders['problems']) == (50, True, 0)
    assert (folders['notes'], shards['notes']) == (
        ['train: class folders', 'val: class folders'], ['train: tar shards', 'val: tar shards']
    )  # fmt: skip
    # Another byte, another digest, even where the image still decodes.
    with (imagenet / FIRST).open('ab') as file:
        file.write(b'\0')
    check(imagenet)
    assert json.loads((imagenet / 'manifest.json').read_text())['digest'] != folders['digest']


def test_a_truncated_image_is_named_in_either_storage(imagenet):
    path = imagenet / FIRST
    os.truncate(path, path.stat().st_size // 2)
    for root in (imagenet, shards_of(imagenet)):
        (line,) = problems(root)['damaged file']
        assert line.startswith(f'{FIRST}: cannot be read as an image (')
        assert 'truncated' in line
        assert problems(root, quick=True) == {}


def test_an_empty_file_is_found_even_quickly(imagenet):
    os.truncate(imagenet / FIRST, 0)
    assert problems(imagenet, quick=True)['damaged file'] == [f'{FIRST}: an empty file']


def test_wrong_counts_are_stated_beside_the_expected(imagenet):
    (imagenet / 'val/n00000003/ILSVRC2012_val_00000004.JPEG').unlink()
    assert sorted(problems(imagenet)['wrong count']) == [
        'val images: 19, expected 20',
        'val/n00000003: 1 images, expected 2',
    ]


def test_missing_and_unknown_classes_are_named(imagenet):
    (imagenet / 'val/n00000003').rename(imagenet / 'val/cat')
    found = problems(imagenet)
    assert found['missing class'] == ['val: no class n00000003']
    assert found['unknown class'] == ['val: cat is no class of the set']


def test_an_image_of_another_class_is_noticed(imagenet):
    shutil.move(imagenet / FIRST, imagenet / 'train/n00000001')
    assert problems(imagenet)['image of another class'] == [
        'train/n00000001/n00000000_0.JPEG: by its name'
    ]


def test_a_flat_validation_folder_comes_with_the_way_out(imagenet):
    for path in list(imagenet.glob('val/*/*.JPEG')):
        path.rename(imagenet / 'val' / path.name)
    for folder in list((imagenet / 'val').glob('n*')):
        folder.rmdir()
    (line,) = problems(imagenet)['layout']
    assert line.startswith(f'{imagenet}/val: 20 images directly in the folder, without class folde')
    assert f"from torchvision.datasets import ImageNet; ImageNet('{imagenet}', 'val')" in line
    assert 'ILSVRC2012_devkit_t12.tar.gz' in line


def test_missing_folders_are_named_with_what_is_expected(imagenet):
    shutil.rmtree(imagenet / 'val')
    assert problems(imagenet)['missing'] == [
        f'{imagenet}/val: no such folder; expected train/<class>/*.JPEG and val/<class>/*.JPEG, '
        'or train/*.tar and val/*.tar'
    ]
    (imagenet / 'val').mkdir()
    (line,) = problems(imagenet)['layout']
    assert line.startswith(f'{imagenet}/val: neither class folders nor tar files; expected')
    shutil.rmtree(imagenet)
    with pytest.raises(FileNotFoundError, match='imagenet: no such folder; expected train/'):
        check(imagenet)


def test_a_broken_shard_is_named(imagenet):
    root = shards_of(imagenet)
    os.truncate(root / 'val/val-000001.tar', 3000)
    (line,) = problems(root)['layout']
    assert line.startswith(f'{root}/val/val-000001.tar: the tar is cut off')


def test_an_empty_class_folder_is_named(imagenet):
    for path in (imagenet / 'train/n00000002').iterdir():
        path.unlink()
    (line,) = problems(imagenet)['layout']
    assert line == f'{imagenet}/train/n00000002: the class folder has no images'


def test_an_unsorted_classes_file_is_noticed(imagenet):
    root = shards_of(imagenet)
    names = (root / 'classes.txt').read_text().split()
    (root / 'classes.txt').write_text('\n'.join([names[1], names[0], *names[2:]]))
    assert problems(root)['class order'] == [
        f'{root}/classes.txt: not sorted: labels differ from those of class folders'
    ]


def test_the_official_numbers_and_classes():
    wnids = imagenet_wnids()
    assert len(set(wnids)) == 1000 and wnids[0] == 'n01440764' and wnids == sorted(wnids)
    assert module.ImageNetCheck.official['train images'] == 1_281_167
    assert module.ImageNetCheck.official['val images'] == 1000 * 50
