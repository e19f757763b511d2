import filecmp
import json
import shutil
from dataclasses import asdict

import cv2
import numpy as np
import pytest
from PIL import Image

from comad.data.sample import write as module
from comad.data.sample.layouts import run_lengths
from comad.data.sample.scenes import CLASSES
from comad.data.sample.write import (
    SampleError,
    SampleSizes,
    find_fault,
    read_manifest,
    tree_digest,
    write_sample,
)
from tests.data.conftest import SIZES

SMALL = SampleSizes(10, 10, 2, 2)


def files(root):
    return sorted(path.relative_to(root).as_posix() for path in root.rglob('*') if path.is_file())


def test_same_seed_gives_the_same_bytes(sample, tmp_path):
    assert write_sample(tmp_path / 'other', seed=3, sizes=SIZES)
    names = files(sample)
    assert files(tmp_path / 'other') == names
    match, mismatch, errors = filecmp.cmpfiles(sample, tmp_path / 'other', names, shallow=False)
    assert (len(match), mismatch, errors) == (len(names), [], [])


def test_any_number_of_processes_writes_the_same_bytes(sample, tmp_path, monkeypatch):
    monkeypatch.setattr(module, 'CHUNK', 7)
    assert write_sample(tmp_path / 'other', seed=3, sizes=SIZES, workers=3)
    assert tree_digest(tmp_path / 'other') == tree_digest(sample)


def test_another_seed_gives_other_images(sample, tmp_path):
    write_sample(tmp_path / 'other', seed=4, sizes=SMALL)
    image = 'imagenet/train/n00000002/n00000002_2.JPEG'
    assert (sample / image).read_bytes() != (tmp_path / 'other' / image).read_bytes()


def test_a_larger_sample_begins_with_the_smaller_one(sample, tmp_path):
    write_sample(tmp_path / 'small', seed=3, sizes=SMALL)
    images = [
        name
        for name in files(tmp_path / 'small')
        if not name.endswith(('json', 'sheet.png', '.bin'))
    ]
    # Two lists of names beside the images.
    assert len(images) == 10 + 10 + 3 * 4 + 2
    for name in images:
        assert (tmp_path / 'small' / name).read_bytes() == (sample / name).read_bytes()
    for name in ('train', 'test'):
        whole, part = (f / f'cifar-100-binary/{name}.bin' for f in (sample, tmp_path / 'small'))
        assert whole.read_bytes().startswith(part.read_bytes())


def test_imagenet_layout(sample):
    for split, count in (('train', 30), ('val', 20)):
        folders = sorted((sample / 'imagenet' / split).iterdir())
        assert [folder.name for folder in folders] == [f'n{kind:08d}' for kind in range(10)]
        assert [len(list(folder.glob('*.JPEG'))) for folder in folders] == [count // 10] * 10
    with Image.open(sample / 'imagenet/train/n00000007/n00000007_7.JPEG') as image:
        assert (image.format, image.mode, image.size) == ('JPEG', 'RGB', (64, 64))
        # libjpeg's first table entries at quality 95 (16 and 11 scaled by 10 %).
        assert image.quantization[0][:2] == [2, 1]


def test_coco_agrees_with_the_labels_of_ade(sample):
    COCO = pytest.importorskip('pycocotools.coco').COCO
    ade = sample / 'ade/ADEChallengeData2016'
    for split, folder, count in (('train', 'training', 12), ('val', 'validation', 8)):
        coco = COCO(sample / f'coco/annotations/instances_{split}2017.json')
        assert len(coco.imgs) == count
        assert [c['name'] for c in coco.loadCats(coco.getCatIds())] == list(CLASSES)
        for number, image in enumerate(coco.dataset['images'], start=1):
            name = f'ADE_{split}_{number:08d}'
            labels = cv2.imread(str(ade / 'annotations' / folder / f'{name}.png'), -1)
            assert labels.dtype == np.uint8 and labels.shape == (64, 64)
            from_masks = np.zeros((64, 64), int)
            for annotation in coco.loadAnns(coco.getAnnIds(image['id'])):
                mask = coco.annToMask(annotation)
                rows, columns = np.nonzero(mask)
                x, y, width, height = annotation['bbox']
                assert (x, y) == (columns.min(), rows.min())
                assert (x + width, y + height) == (columns.max() + 1, rows.max() + 1)
                assert annotation['area'] == mask.sum() and annotation['iscrowd'] == 0
                name_of_class = coco.cats[annotation['category_id']]['name']
                from_masks += (2 + CLASSES.index(name_of_class)) * mask
            np.testing.assert_array_equal(from_masks, np.where(labels < 2, 0, labels))
            assert (labels == 0).any() and (labels == 1).mean() > 0.5
            assert len(image['file_name']) == len('000000000001.jpg')
            jpeg = (sample / f'coco/{split}2017' / image['file_name']).read_bytes()
            assert jpeg == (ade / 'images' / folder / f'{name}.jpg').read_bytes()


def test_coco_ids_are_unique_over_both_splits(sample):
    ids = {'images': [], 'annotations': []}
    for split in ('train', 'val'):
        content = json.loads((sample / f'coco/annotations/instances_{split}2017.json').read_text())
        for kind in ids:
            ids[kind] += [entry['id'] for entry in content[kind]]
    assert all(len(set(found)) == len(found) for found in ids.values())


@pytest.mark.parametrize('corner', [0, 1])
def test_run_lengths_start_with_zeros_and_run_down_columns(corner):
    mask = np.array([[corner, 0, 1], [0, 1, 1]], bool)
    runs, value, flat = run_lengths(mask), 0, []
    for run in runs:
        flat += [value] * run
        value = 1 - value
    assert flat == mask.T.ravel().astype(int).tolist()
    assert sum(runs) == mask.size


def test_manifest_and_contact_sheet(sample):
    manifest = read_manifest(sample)
    assert (manifest['seed'], manifest['version']) == (3, module.SAMPLE_VERSION)
    assert manifest['images'] == asdict(SIZES)
    # Images and labels, two instance files, CIFAR's four files, the contact sheet.
    assert manifest['files'] == 30 + 20 + 3 * (12 + 8) + 2 + 4 + 1
    assert tree_digest(sample) == (manifest['files'], manifest['sha256'])
    sheet = cv2.imread(str(sample / 'contact_sheet.png'))
    assert sheet.shape[0] > 1000 and sheet.shape[1] > 1500 and sheet.std() > 20


class Existing:
    """A sample in a writable folder and what happens when it is asked for again."""

    def __init__(self, root):
        self.root, self.lines = root, []
        self.before = tree_digest(root)

    def ask(self, **options):
        return write_sample(self.root, **{'sizes': SMALL, 'report': self.lines.append, **options})


@pytest.fixture(scope='module')
def small(tmp_path_factory):
    root = tmp_path_factory.mktemp('small') / 'sample'
    write_sample(root, sizes=SMALL)
    return root


@pytest.fixture
def existing(small, tmp_path):
    return Existing(shutil.copytree(small, tmp_path / 'sample'))


def test_second_call_writes_nothing(existing):
    image = existing.root / 'imagenet/val/n00000001/ILSVRC2012_val_00000002.JPEG'
    stamp = image.stat().st_mtime_ns
    assert not existing.ask()
    assert (image.stat().st_mtime_ns, existing.lines) == (stamp, [])
    assert existing.ask(force=True)
    assert image.stat().st_mtime_ns > stamp
    assert tree_digest(existing.root) == existing.before


def damage_byte(root):
    path = root / 'coco/train2017/000000000001.jpg'
    data = bytearray(path.read_bytes())
    data[400] ^= 1
    path.write_bytes(data)


def remove_file(root):
    (root / 'ade/ADEChallengeData2016/annotations/training/ADE_train_00000001.png').unlink()


def cut_manifest(root):
    (root / 'manifest.json').write_text('{"version":')


def age_manifest(root):
    manifest = read_manifest(root)
    (root / 'manifest.json').write_text(json.dumps({**manifest, 'version': 0}))


@pytest.mark.parametrize(
    ('harm', 'line'),
    [
        (damage_byte, 'a file differs from what was written'),
        (remove_file, 'it holds 38 files, not 39'),
        (cut_manifest, 'its manifest.json cannot be read'),
        (age_manifest, f'its version is 0, not {module.SAMPLE_VERSION}'),
    ],
)
def test_a_damaged_or_older_sample_is_rebuilt_with_a_line(existing, harm, line):
    harm(existing.root)
    assert existing.ask()
    assert existing.lines == [f'{existing.root} is replaced: {line}']
    assert tree_digest(existing.root) == existing.before
    assert find_fault(existing.root, sizes=SMALL) is None


def test_another_seed_replaces_the_sample(existing):
    assert existing.ask(seed=1)
    assert existing.lines == [f'{existing.root} is replaced: its seed is 0, not 1']


def test_foreign_files_are_never_deleted(existing, tmp_path):
    mine = tmp_path / 'data' / 'imagenet' / 'train'
    mine.mkdir(parents=True)
    (mine / 'a.JPEG').touch()
    with pytest.raises(SampleError, match='no manifest.json: it is no sample'):
        write_sample(tmp_path / 'data', sizes=SMALL, force=True)
    (existing.root / 'notes.txt').touch()
    with pytest.raises(SampleError, match='also holds notes.txt'):
        existing.ask(force=True)
    assert (mine / 'a.JPEG').exists() and (existing.root / 'notes.txt').exists()


def test_an_interrupted_call_leaves_the_old_sample(existing):
    def interrupt(done, total):
        assert total == 2 * (10 + 10) + 2 + 2
        if done > 15:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        existing.ask(seed=9, progress=interrupt)
    assert tree_digest(existing.root) == existing.before
    assert [path.name for path in existing.root.parent.iterdir() if path.is_dir()] == ['sample']


def test_a_link_to_another_disk_stays_a_link(tmp_path):
    (tmp_path / 'disk' / 'sample').mkdir(parents=True)
    (tmp_path / 'link').symlink_to(tmp_path / 'disk' / 'sample')
    assert write_sample(tmp_path / 'link', sizes=SMALL)
    assert (tmp_path / 'link').is_symlink()
    assert find_fault(tmp_path / 'link', sizes=SMALL) is None


def test_too_few_images_and_negative_seeds_are_refused(tmp_path):
    with pytest.raises(ValueError, match='imagenet_val=9: at least 10 images'):
        SampleSizes(imagenet_val=9)
    with pytest.raises(ValueError, match='seed=-1'):
        write_sample(tmp_path / 'sample', seed=-1)
