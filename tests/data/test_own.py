"""Data of one's own: found in whatever form they are, named and cited, refused in one line."""

import json
import os
import shutil
import tarfile
import zlib

import numpy as np
import pytest
from PIL import Image

from comad.data import own as module
from comad.data.check.imagenet import ImageNetCheck
from comad.data.check.own import OwnCheck
from comad.data.check.run import check_dataset
from comad.data.decode import decode_pillow
from comad.data.faults import CheckedImages, UnreadableData
from comad.data.files import index_files
from comad.data.identity import identify
from comad.data.imagenet import ImageNetFolder
from comad.data.manifest import QUICK, data_manifest
from comad.data.own import cite_own, open_own, read_own
from comad.data.own_dense import find_masks, find_objects
from comad.data.shards import TarShards


def image(path, value=9, mode='RGB'):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new(mode, (16, 16), value if mode != 'RGB' else (value, 0, 0)).save(path)


@pytest.fixture
def photos(tmp_path):
    root = tmp_path / 'photos'
    for name in ('a.jpg', 'trip/b.PNG', 'trip/day/c.webp', 'd.tiff', 'e.bmp', '.hidden/f.jpg'):
        image(root / name)
    (root / 'loop').symlink_to(root)
    return root


@pytest.fixture
def classes(tmp_path):
    root = tmp_path / 'pets'
    for name in ('cat', 'dog'):
        for number in range(10):
            image(root / name / f'{number}.png', number)
    return root


def test_a_folder_is_searched_and_all_formats_are_read(photos):
    data = ImageNetFolder(photos, own=dict(labels=False), views=dict(type='CenterCrop', size=8))
    names = [os.fsdecode(path) for path in data.storage.paths.tolist()]
    assert names == ['a.jpg', 'd.tiff', 'e.bmp', 'trip/b.PNG', 'trip/day/c.webp']
    assert [data[n]['labels'] for n in range(5)] == [0] * 5
    assert all(abs(int(data[n]['inputs'][0].max()) - 9) < 3 for n in range(5))
    found = identify(data)
    assert (found.name, found.images, found.classes) == ('photos', 5, 0)
    assert found.manifest == index_files(photos).digest + QUICK


def test_depth_of_pixels(tmp_path):
    grey = np.full((4, 4), 0x1234, np.uint16)
    for suffix in ('png', 'tiff'):
        Image.fromarray(grey).save(tmp_path / f'x.{suffix}')
        pixels = np.asarray(decode_pillow((tmp_path / f'x.{suffix}').read_bytes()))
        assert pixels.shape == (4, 4, 3) and set(pixels.ravel().tolist()) == {0x12}
    for kind in (np.float32, np.int32):
        Image.fromarray(np.ones((4, 4), kind)).save(tmp_path / 'deep.tiff')
        with pytest.raises(OSError, match='32 bits a channel'):
            decode_pillow((tmp_path / 'deep.tiff').read_bytes())


def test_the_index_of_a_big_folder_is_kept_and_follows_changes(photos, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr('comad.data.files.KEPT_FROM', 1)
    for folder in (photos, photos / 'trip', photos / 'trip/day'):
        os.utime(folder, (1, 1))
    first = index_files(photos)
    with monkeypatch.context() as without:
        without.setattr('comad.data.files._search', lambda root: pytest.fail('searched again'))
        assert index_files(photos).paths.tolist() == first.paths.tolist()
    image(photos / 'trip/new.jpg')
    again = index_files(photos)
    assert len(again.paths) == len(first.paths) + 1 and again.digest != first.digest
    # What was changed as it was searched is not kept: its clock may not show the next change.
    assert len(index_files(photos).paths) == len(again.paths)


def test_a_check_gives_the_digest_of_contents(photos):
    quick, problems = cite_own(photos)
    assert quick.endswith(QUICK) and problems is None
    assert check_dataset(OwnCheck(photos)).findings.total == 0
    full, problems = cite_own(photos)
    assert QUICK not in full and problems == 0
    data = dict(dataset=dict(root=str(photos), own=dict(labels=False)))
    assert data_manifest(dict(train_cfg={}, train_dataloader=data, val_dataloader=None)) == full
    image(photos / 'new.jpg')  # other data than those that were checked
    assert cite_own(photos)[0].endswith(QUICK)


def test_lists_name_images_anywhere(photos, tmp_path):
    (tmp_path / 'some.txt').write_text(f'photos/e.bmp\n{photos}/a.jpg\n')
    storage = open_own(tmp_path / 'some.txt')
    assert [os.path.basename(storage.path(n)) for n in (0, 1)] == ['e.bmp', 'a.jpg']
    (tmp_path / 'some.txt').write_text('photos/e.bmp\nphotos/gone.jpg\n')
    with pytest.raises(ValueError, match=r'some\.txt, line 2: photos/gone\.jpg does not exist'):
        open_own(tmp_path / 'some.txt')


def test_shards_of_others_need_no_labels(photos, tmp_path):
    root = tmp_path / 'web'
    root.mkdir()
    (root / 'note.json').write_text('{}')
    with tarfile.open(root / '0.tar', 'w') as tar:
        tar.add(photos / 'trip/day/c.webp', '001.webp')
        tar.add(root / 'note.json', '001.json')
        tar.add(root / 'note.json', '002.json')  # its download failed
    storage = open_own(root)
    assert isinstance(storage, TarShards) and len(storage) == 1
    assert storage.read(0) == (photos / 'trip/day/c.webp').read_bytes()
    with pytest.raises(ValueError, match=r'shards with labels are train/\*\.tar and val/\*\.tar'):
        read_own(root, True)


def test_a_split_is_drawn_by_the_seed_from_every_class(classes):
    own = dict(labels=True, holdout=0.2, seed=0)
    parts = {split: open_own(classes, split, **own) for split in ('train', 'val')}
    assert {split: np.bincount(part.labels).tolist() for split, part in parts.items()} == {
        'train': [8, 8], 'val': [2, 2],
    }  # fmt: skip
    paths = [set(part.paths.tolist()) for part in parts.values()]
    assert not paths[0] & paths[1] and len(paths[0] | paths[1]) == 20
    other = open_own(classes, 'val', **{**own, 'seed': 1})
    assert set(other.paths.tolist()) != paths[1]


def test_a_split_that_is_there_is_used(classes, tmp_path):
    root = tmp_path / 'split'
    shutil.copytree(classes, root / 'train')
    shutil.copytree(classes, root / 'valid')
    image(root / 'test/cat/x.png')
    own = read_own(root, True)
    assert {s: len(listed.paths) for s, listed in own.splits.items()} == {'train': 20, 'val': 20}
    assert len(open_own(root)) == 20  # without labels no other split is seen either


@pytest.mark.parametrize(
    ('harm', 'line'),
    [
        (lambda root: shutil.rmtree(root / 'val/dog'), 'classes dog in train alone; every class'),
        (
            lambda root: (root / 'val/dog').rename(root / 'val/fox'),
            'classes dog in train alone; fox in val alone',
        ),
        (
            lambda root: [image(root / f'val/{n}/1.png') for n in range(9)],
            'classes 0, 1, 2, 3, 4, 5, 6, 7 and 1 more in val alone',
        ),
        (lambda root: (root / 'train/emu').mkdir() or image(root / 'val/emu/1.png'), 'emu in val'),
        (lambda root: image(root / 'val/1.png'), 'lie in no class folder, val/1.png'),
        (lambda root: image(root / 'train/1.png'), None),
    ],
    ids=['lost', 'other', 'many', 'empty', 'loose', 'photos'],
)
def test_classes_of_one_split_alone_are_a_problem_unless_these_are_photos(
    classes, tmp_path, harm, line
):
    root = tmp_path / 'split'
    for split in ('train', 'val'):
        shutil.copytree(classes, root / split)
    harm(root)
    found = check_dataset(OwnCheck(root), quick=True).findings
    if line is None:
        assert not found.total and any(note.startswith('no labels: ') for note in found.notes)
        return
    assert [line in text for text in found.problems['layout']] == [True]
    with pytest.raises(ValueError, match=line):
        read_own(root, True)


def test_nothing_is_written_where_there_is_no_image(tmp_path):
    (tmp_path / 'notes.txt').write_text('no image')
    for check in (OwnCheck(tmp_path), ImageNetCheck(tmp_path)):
        found = check_dataset(check)
        assert found.findings.total and found.manifest is None
        assert 'check.txt' not in found.summary()
        assert [path.name for path in tmp_path.iterdir()] == ['notes.txt']


def test_numbers_are_sorted_by_value_and_a_list_of_classes_fixes_the_order(classes, tmp_path):
    rows = [f'pets/cat/{n}.png,{n % 3 * 5}' for n in range(9)]
    (tmp_path / 'l.csv').write_text('\n'.join(['\ufeffpath,label', *rows]))
    assert read_own(tmp_path / 'l.csv', True).classes == ('0', '5', '10')
    (tmp_path / 'classes.txt').write_text('10\n5\n0\n')
    assert read_own(tmp_path / 'l.csv', True).classes == ('10', '5', '0')


ROWS = 'pets/cat/1.png,cat\npets/dog/1.png,dog\n'


@pytest.mark.parametrize(
    ('text', 'line'),
    [
        ('file,kind\n' + ROWS, 'begins with file,kind; expected the columns path,label'),
        ('path,label\n' + ROWS + 'pets/cat/2.png,\n', 'line 4: the label is empty'),
        ('path,label\n' + ROWS + 'pets/cat/2.png,7\n', r'labels are numbers \(7\) and texts \(cat'),
        ('path,label\npets/cat/1.png,cat\n', 'one label, cat, makes no classes'),
        ('path,label,split\npets/cat/1.png,cat,dev\n', "split 'dev'; expected train, val or test"),
        ('path,label\n', 'names no images'),
        ('path;label\n' + ROWS.replace(',', ';'), 'begins with path;label; .* commas between'),
        ('path,label\n' + ROWS + 'pets/cat/2.png,\0\n', r"line 4: the label '\\x00' is no text"),
        ('path,label\n' + ROWS + 'pets/cat,cat\n', 'line 4: pets/cat is no file, seen from'),
        ('path,label\n' + ROWS + '../pets/cat/3.png,cat\n', r'\.\./pets/cat/3\.png does not exist'),
        (
            'path,label\n' + ROWS + './pets/cat/1.png,dog\n',
            r'line 4: \./pets/cat/1\.png is in .*, line 2 too; an image has one label and split',
        ),
        ('path,label\n' + ROWS + 'pets/cat/3.png,Cat\n', "the classes 'Cat' and 'cat' overlap"),
        ('path,label,split\n' + ROWS.replace('\n', ',val\n'), "has no split 'train', only val"),
        ('path,label\n' + ROWS + '"pets', 'is no CSV in UTF-8'),
    ],
)
def test_tables_that_cannot_be_used_are_one_line(classes, tmp_path, text, line):
    (tmp_path / 'l.csv').write_text(text)
    with pytest.raises(ValueError, match=line) as error:
        open_own(tmp_path / 'l.csv', labels=True)
    assert '\n' not in str(error.value)


@pytest.mark.parametrize('encoding', ['utf-16', 'latin-1'])
def test_tables_in_other_encodings_are_one_line(classes, tmp_path, encoding):
    (tmp_path / 'l.csv').write_text('path,label\npets/cat/1.png,k\u00e4tzchen\n', encoding)
    with pytest.raises(ValueError, match=r'l\.csv: is no CSV in UTF-8 \(.*: save it as such'):
        read_own(tmp_path / 'l.csv', True)


def test_a_label_that_no_class_has_is_named(classes, tmp_path):
    (tmp_path / 'l.csv').write_text('path,label\n' + ROWS)
    (tmp_path / 'classes.txt').write_text('cat\nhorse\n')
    with pytest.raises(ValueError, match=r"the label 'dog' is none of .*classes\.txt: cat, horse"):
        read_own(tmp_path / 'l.csv', True)


@pytest.mark.parametrize(
    ('harm', 'line'),
    [
        (
            lambda root: shutil.rmtree(root / 'cat') or shutil.rmtree(root / 'dog'),
            'no images in it',
        ),
        (lambda root: (root / 'emu').mkdir(), 'the class emu has no images: add some, or remove'),
        (lambda root: image(root / 'loose.png'), 'images lie in no class folder, loose.png for'),
        (lambda root: shutil.rmtree(root / 'cat'), 'one folder, dog, is no classes'),
        (lambda root: image(root / 'Dog/1.png'), "the classes 'Dog' and 'dog' overlap"),
    ],
    ids=['empty', 'class without images', 'loose', 'one class', 'capitals'],
)
def test_folders_that_are_no_classes_are_one_line(classes, harm, line):
    harm(classes)
    with pytest.raises(ValueError, match=line) as error:
        read_own(classes, True)
    assert '\n' not in str(error.value) and str(classes) in str(error.value)


def test_a_class_of_one_image_cannot_be_split(classes):
    image(classes / 'emu/1.png')
    with pytest.raises(ValueError, match='the class emu has a single image'):
        open_own(classes, 'val', labels=True, **module.HOLDOUT)


def test_odd_names_and_links_are_read_or_named(classes):
    (classes / 'cat').rename(classes / 'k\u00e4se \u732b')
    os.rename(classes / 'dog/0.png', os.fsencode(classes / 'dog') + b'/\xff\xfe.png')
    (classes / 'dog/round').symlink_to(classes)  # leads back
    (classes / 'self').symlink_to('self')
    (classes / 'dog/none.png').symlink_to('none.png')
    storage = open_own(classes, labels=True)
    assert storage.classes == ('dog', 'k\u00e4se \u732b') and len(storage) == 21
    lost = next(n for n, path in enumerate(storage.paths.tolist()) if path == b'dog/none.png')
    with pytest.raises(OSError, match='symbolic links'):
        storage.read(lost)


@pytest.mark.parametrize('edges', [(0, 5), (200_000, 200_000)])
def test_a_header_that_promises_too_much_is_no_image(tmp_path, edges):
    image(tmp_path / 'x.png')
    content = bytearray((tmp_path / 'x.png').read_bytes())
    content[16:24] = b''.join(edge.to_bytes(4) for edge in edges)
    content[29:33] = zlib.crc32(content[12:29]).to_bytes(4)
    (tmp_path / 'x.png').write_bytes(content)
    data = ImageNetFolder(tmp_path, own=dict(labels=False))
    with pytest.raises(OSError, match=r'x\.png: cannot be read as an image') as error:
        data[0]
    assert '\n' not in str(error.value)


def test_images_that_are_all_corrupt_stop_in_one_line(photos, tmp_path):
    for path in index_files(photos).paths.tolist():
        (photos / os.fsdecode(path)).write_bytes(b'no image')
    data = CheckedImages(
        ImageNetFolder(photos, own=dict(labels=False)), tmp_path / 'bad.txt', max_bad_share=0.1
    )
    with pytest.raises(UnreadableData, match='2 of 5 training images are unreadable') as error:
        data[0]
    assert '\n' not in str(error.value)
    assert check_dataset(OwnCheck(photos)).findings.total == 5


@pytest.fixture
def objects(tmp_path):
    """Two images with a triangle each, of two categories; a third is never used."""
    root = tmp_path / 'tools'
    for name in ('1.png', '2.png'):
        image(root / 'images' / name)
    triangle = [[1, 1, 9, 1, 9, 9]]
    content = dict(
        images=[dict(id=n, file_name=f'{n}.png', width=16, height=16) for n in (1, 2)],
        annotations=[
            dict(id=n, image_id=n, category_id=5 * n, bbox=[1, 1, 8, 8], segmentation=triangle)
            for n in (1, 2)
        ],
        categories=[dict(id=5 * n, name=f'tool {n}') for n in (1, 2, 3)],
    )
    (root / 'labels.json').write_text(json.dumps(content))
    return root


def test_objects_have_the_categories_that_are_annotated(objects):
    found = find_objects(objects)
    assert found.splits == {'train': ('labels.json', 'images')}
    assert (found.classes, found.unused) == (('tool 1', 'tool 2'), ('tool 3',))
    assert find_objects(objects / 'labels.json').classes == found.classes
    digest, problems = cite_own(objects / 'labels.json')
    assert digest.endswith(QUICK) and problems is None


@pytest.mark.parametrize(
    ('harm', 'line'),
    [
        (lambda c: c['categories'][0].update(name='Tool  2'), 'overlap: they differ by capitals'),
        (lambda c: c['categories'][0].update(id=10), 'no id and name of its own'),
        (lambda c: c['categories'][0].pop('id'), 'no id and name of its own'),
        (lambda c: c['categories'][0].update(name=' '), 'no id and name of its own'),
        (
            lambda c: c['images'].append(c['images'][0]),
            'image 1: no id of its own',
        ),
        (lambda c: c['annotations'][0].update(image_id='1'), "image_id '1', the image has 1"),
        (lambda c: c['annotations'][0].update(segmentation=[[1, 1, 2, 2]]), 'three points or more'),
        (
            lambda c: c['annotations'][0].update(
                iscrowd=1, segmentation=dict(counts=[0, 9], size=[16, 16])
            ),
            'annotation 1: segmentation: run lengths add up to 9, not 256',
        ),
        (lambda c: c['annotations'][0].update(bbox=[1, 1, -2, 2]), r'is not \[x, y, width, height'),
        (lambda c: c['annotations'][0].pop('category_id'), 'category_id None is none of the file'),
        (lambda c: c.update(annotations=[]), 'no annotations of its images to learn from'),
        (lambda c: c['images'][0].pop('id'), 'no id of its own'),
        (lambda c: [i.update(file_name='gone.png') for i in c['images']], 'gone.png is in none of'),
    ],
)
def test_objects_that_cannot_be_used_are_one_line(objects, harm, line):
    content = json.loads((objects / 'labels.json').read_text())
    harm(content)
    (objects / 'labels.json').write_text(json.dumps(content))
    with pytest.raises(ValueError, match=line) as error:
        find_objects(objects)
    assert '\n' not in str(error.value)


def test_masks_beyond_the_classes_are_named(tmp_path):
    root = tmp_path / 'scenes'
    image(root / 'images/1.jpg')
    with pytest.raises(FileNotFoundError, match='expected the folders images and masks, and'):
        find_masks(root)
    image(root / 'masks/1.png', 2, 'L')
    with pytest.raises(FileNotFoundError, match='one class per line, the first is the value 0'):
        find_masks(root)
    (root / 'classes.txt').write_text('ground\nroad\nhouse\n')
    assert find_masks(root).classes == ('ground', 'road', 'house')
    (root / 'classes.txt').write_text('ground\nroad\n')
    with pytest.raises(ValueError, match=r'holds the value 2, but .* names 2 classes, 0 to 1; 255'):
        find_masks(root)
    (root / 'classes.txt').write_text('ground\nroad\nRoad\n')
    with pytest.raises(ValueError, match=r"classes\.txt: the classes 'road' and 'Road' overlap"):
        find_masks(root)
    (root / 'classes.txt').write_text('ground\nroad\nhouse\n')
    image(root / 'masks/1.png', 2, 'RGB')
    with pytest.raises(ValueError, match='mode RGB, expected class indices in one channel'):
        find_masks(root)
    (root / 'masks/1.png').write_bytes(b'')
    with pytest.raises(ValueError, match=r'masks/1\.png: cannot be read as an image'):
        find_masks(root)
    image(root / 'masks/1.png', 2, 'L')
    image(root / 'images/2.jpg')
    with pytest.raises(ValueError, match=r'1 of 2 images have no mask: .*2\.jpg needs .*2\.png'):
        find_masks(root)
