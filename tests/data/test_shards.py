"""Tar shards: the same samples as the folders they were made of, and one line for each damage."""

import io
import os
import pickle
import tarfile

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from comad.data import shards as module
from comad.data.imagenet import ImageNetFolder
from comad.data.pack import write_shards
from comad.data.shards import TarShards

CENTER = dict(type='CenterCrop', size=32, resize=40)
RANDOM = dict(type='TwoViews', size=32)


@pytest.fixture(scope='module')
def shards(sample, tmp_path_factory):
    """Of the sample, 7 images each. Read only."""
    out = tmp_path_factory.mktemp('shards')
    for split in ('train', 'val'):
        write_shards(sample / 'imagenet', out, split, images_per_shard=7)
    return out


def write_tar(path, *members):
    """A tar of (name, bytes) pairs or TarInfo."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, 'w') as tar:
        for member in members:
            if isinstance(member, tarfile.TarInfo):
                tar.addfile(member)
            else:
                info = tarfile.TarInfo(member[0])
                info.size = len(member[1])
                tar.addfile(info, io.BytesIO(member[1]))
    return path


@pytest.mark.parametrize('split', ['train', 'val'])
@pytest.mark.parametrize('views', [CENTER, RANDOM], ids=['centre', 'random'])
@pytest.mark.parametrize('subset', [None, dict(share=0.4, seed=1)], ids=['all', 'subset'])
def test_both_storages_give_the_same_samples(sample, shards, split, views, subset):
    folders = ImageNetFolder(sample / 'imagenet', split, views, subset)
    tars = ImageNetFolder(shards, split, views, subset)
    assert (folders.storage.kind, tars.storage.kind) == ('class folders', 'tar shards')
    assert folders.metainfo == tars.metainfo
    assert len(folders) == len(tars) > 0
    for index in range(len(folders)):
        torch.manual_seed(index)
        one = folders[index]
        torch.manual_seed(index)
        two = tars[index]
        assert one['labels'] == two['labels']
        pairs = zip(one['inputs'], two['inputs'], strict=True)
        assert all(torch.equal(left, right) for left, right in pairs)


def test_members_are_the_original_bytes_in_webdataset_layout(sample, shards):
    with tarfile.open(shards / 'train/train-000000.tar') as tar:
        names = tar.getnames()
        assert names[:2] == ['n00000000/n00000000_0.JPEG', 'n00000000/n00000000_0.cls']
        original = (sample / 'imagenet/train/n00000000/n00000000_0.JPEG').read_bytes()
        assert tar.extractfile(names[0]).read() == original
        assert tar.extractfile(names[1]).read() == b'0'
    classes = (shards / 'classes.txt').read_text().split()
    assert classes == sorted(path.name for path in (sample / 'imagenet/train').iterdir())
    assert sorted(path.name for path in (shards / 'train').glob('*.tar')) == [
        f'train-{number:06}.tar' for number in range(5)
    ]


def test_forked_workers_read_the_same(shards, monkeypatch):
    # Fewer open files than shards: closing and opening again must not mix them up.
    monkeypatch.setattr('comad.data.shards.MAX_OPEN', 2)
    data = ImageNetFolder(shards, 'train', CENTER)
    alone = [data[index] for index in range(len(data))]
    loader = DataLoader(data, batch_size=4, num_workers=2, multiprocessing_context='fork')
    batches = list(loader)
    assert torch.equal(
        torch.cat([batch['inputs'] for batch in batches]),
        torch.stack([item['inputs'] for item in alone]),
    )
    assert len(os.listdir('/proc/self/fd')) < 100
    copy = pickle.loads(pickle.dumps(data.storage))
    assert copy.read(3) == data.storage.read(3)


def test_shuffled_shards_of_others_are_read_in_sorted_order(sample, tmp_path):
    image = (sample / 'imagenet/val/n00000000/ILSVRC2012_val_00000001.JPEG').read_bytes()
    (tmp_path / 'classes.txt').write_text('\ufeffzebra\nant\n')
    write_tar(
        tmp_path / 'val/b.tar', ('./b.json', b'{}'), ('./b.PNG', image), ('./b.cls', b' 1\n'),
        ('c.jpeg', image), ('c.cls', b'0'), ('._c.jpeg', b'mac'),
    )  # fmt: skip
    write_tar(tmp_path / 'val/a.tar', ('x/a.JPG', image), ('x/a.cls', b'1'))
    storage = TarShards(tmp_path / 'val')
    assert storage.names.tolist() == [b'c.jpeg', b'a.JPG', b'b.PNG']
    assert storage.labels.tolist() == [0, 1, 1]
    assert storage.classes == ('zebra', 'ant')


def test_the_index_is_kept_and_follows_the_shards(sample, tmp_path, monkeypatch):
    write_shards(sample / 'imagenet', tmp_path, 'val', images_per_shard=8)
    folder = tmp_path / 'val'
    scans = []
    monkeypatch.setattr(
        module,
        'build_index',
        lambda *a, real=module.build_index: scans.append(1) or real(*a),
    )
    first = TarShards(folder)
    assert scans == []
    os.utime(folder / 'val-000001.tar', (1, 1))
    assert TarShards(folder).index.members.tolist() == first.index.members.tolist()
    assert scans == [1]
    (folder / 'index.npz').write_bytes(b'PK\x03\x04 broken')
    TarShards(folder)
    TarShards(folder)
    assert scans == [1, 1]
    assert sorted(path.name for path in folder.iterdir()) == [
        '.index.lock', 'index.npz', 'shards.json',
        'val-000000.tar', 'val-000001.tar', 'val-000002.tar',
    ]  # fmt: skip


def link(name):
    info = tarfile.TarInfo(name)
    info.type, info.linkname = tarfile.SYMTYPE, '/etc/passwd'
    return info


GOOD = (('a.jpg', b'x' * 600), ('a.cls', b'0'))


@pytest.mark.parametrize(
    ('members', 'message'),
    [
        ([('../a.jpg', b'x'), ('../a.cls', b'0')], 'member ../a.jpg points outside of the shard'),
        ([('/a.jpg', b'x')], 'member /a.jpg points outside of the shard'),
        ([*GOOD, link('b.jpg')], 'member b.jpg is no plain file (a link or device)'),
        ([*GOOD, *GOOD], 'duplicate key: member a.jpg is there twice'),
        ([*GOOD, ('a.png', b'x')], 'duplicate key: member a.png is there twice'),
        ([*GOOD, ('b.jpg', b'x')], 'member b.jpg has no label b.cls'),
        ([*GOOD, ('b.cls', b'0')], 'member b.cls has no image b.jpg|jpeg|png'),
        ([*GOOD, ('b.x.jpg', b'0')], 'member b.x.jpg has no image b.jpg|jpeg|png'),
        ([('a.jpg', b'x'), ('a.cls', b'dog')], "member a.cls holds 'dog', not a label like 17"),
        ([('a.jpg', b'x'), ('a.cls', b'7')], 'member a.jpg has the label 7, but classes.txt holds'),
        ([], 'the tar holds no samples <key>.jpg and <key>.cls'),
    ],
)
def test_malformed_shards_are_named_in_one_line(tmp_path, members, message):
    path = write_tar(tmp_path / 'val/s.tar', *members)
    (tmp_path / 'classes.txt').write_text('dog\n')
    with pytest.raises(ValueError) as error:
        ImageNetFolder(tmp_path, 'val')
    (line,) = str(error.value).splitlines()
    assert line.startswith(f'{path}: {message}')
    assert not (tmp_path / 'val/index.npz').exists() or 'label 7' in line


@pytest.mark.parametrize(
    ('size', 'message'),
    [
        (300, 'not an uncompressed tar'),
        (700, 'the tar is cut off within member a.jpg'),
        (1536, 'the tar is cut off or damaged behind member a.jpg'),
        (1700, 'the tar is cut off or damaged behind member a.jpg'),
        (2560, 'the tar is cut off or damaged behind member a.cls'),
    ],
)
def test_a_tar_that_breaks_off_is_noticed(tmp_path, size, message):
    path = write_tar(tmp_path / 'val/s.tar', *GOOD)
    (tmp_path / 'classes.txt').write_text('dog\n')
    os.truncate(path, size)
    with pytest.raises(ValueError) as error:
        ImageNetFolder(tmp_path, 'val')
    assert str(error.value).startswith(f'{path}: {message}')


def test_a_damaged_header_is_not_taken_for_the_end(tmp_path):
    path = write_tar(tmp_path / 'val/s.tar', *GOOD, ('b.jpg', b'x'), ('b.cls', b'0'))
    (tmp_path / 'classes.txt').write_text('dog\n')
    data = bytearray(path.read_bytes())
    data[2560:2570] = b'\xff' * 10
    path.write_bytes(data)
    with pytest.raises(ValueError, match='cut off or damaged behind member a.cls'):
        ImageNetFolder(tmp_path, 'val')


def test_other_faults_of_a_shard_folder(tmp_path):
    path = write_tar(tmp_path / 'val/s.tar', *GOOD)
    with pytest.raises(FileNotFoundError, match='classes.txt is missing: tar shards need it'):
        ImageNetFolder(tmp_path, 'val')
    (tmp_path / 'classes.txt').write_text('dog\ncat\ndog\n')
    with pytest.raises(ValueError, match='the class dog is named twice'):
        ImageNetFolder(tmp_path, 'val')
    (tmp_path / 'classes.txt').write_text('dog\ncat\n')
    with pytest.raises(ValueError, match='the shards hold no image of class cat'):
        ImageNetFolder(tmp_path, 'val')
    (tmp_path / 'classes.txt').write_text('dog\n')
    data = ImageNetFolder(tmp_path, 'val', CENTER)
    with pytest.raises(OSError, match=r's\.tar: a\.jpg: cannot be read as an image'):
        data[0]
    os.truncate(path, 700)
    with pytest.raises(OSError, match=r's\.tar: a\.jpg: the shard is cut off \(188 of 600 bytes\)'):
        data[0]
    write_tar(tmp_path / 'val/s.tar', *GOOD)
    write_tar(tmp_path / 'val/t.tar', *GOOD)
    with pytest.raises(ValueError, match=r't\.tar: duplicate key: member a.jpg is also in s\.tar'):
        ImageNetFolder(tmp_path, 'val')
    (tmp_path / 'val/dog').mkdir()
    with pytest.raises(ValueError, match=r'val: both class folders and tar files \(s.tar\)'):
        ImageNetFolder(tmp_path, 'val')


def test_folders_and_shards_may_be_mixed_if_classes_agree(sample, shards, tmp_path):
    (tmp_path / 'train').symlink_to(shards / 'train')
    (tmp_path / 'val').symlink_to(sample / 'imagenet/val')
    (tmp_path / 'classes.txt').write_bytes((shards / 'classes.txt').read_bytes())
    assert len(ImageNetFolder(tmp_path, 'train')) == 30
    assert len(ImageNetFolder(tmp_path, 'val')) == 20
    names = (shards / 'classes.txt').read_text().split()
    (tmp_path / 'classes.txt').write_text('\n'.join(names[::-1]))
    with pytest.raises(ValueError, match='classes.txt is not sorted like the class folders'):
        ImageNetFolder(tmp_path, 'train')


def stamp(path):
    return path.stat().st_ino


def test_a_stopped_run_goes_on_and_keeps_finished_shards(sample, shards, tmp_path, monkeypatch):
    def pack(**options):
        return write_shards(sample / 'imagenet', tmp_path, 'train', 7, **options)

    import comad.data.pack as writer

    real, written = writer._add, []

    def interrupted(tar, name, data):
        if len(written) == 20:
            raise KeyboardInterrupt
        written.append(name)
        real(tar, name, data)

    monkeypatch.setattr(writer, '_add', interrupted)
    with pytest.raises(KeyboardInterrupt):
        pack()
    folder = tmp_path / 'train'
    assert sorted(path.name for path in folder.iterdir()) == ['shards.json', 'train-000000.tar']
    first = stamp(folder / 'train-000000.tar')
    monkeypatch.setattr(writer, '_add', real)
    lines, steps = [], []
    assert pack(report=lines.append, progress=lambda *step: steps.append(step), workers=2) == 4
    assert lines == ['1 of 5 shards of train are there: kept']
    assert steps[-1] == (23, 23)
    assert stamp(folder / 'train-000000.tar') == first
    for path in sorted(folder.glob('*.tar')):
        assert path.read_bytes() == (shards / 'train' / path.name).read_bytes()
    assert pack() == 0
    with pytest.raises(FileExistsError, match='images_per_shard=7, this run has .*=8; use the'):
        write_shards(sample / 'imagenet', tmp_path, 'train', 8)
    (folder / 'shards.json').unlink()
    with pytest.raises(FileExistsError, match='train-000000.tar: holds other images'):
        write_shards(sample / 'imagenet', tmp_path, 'train', 8)
    assert pack() == 0  # of the time before there were manifests
    with pytest.raises(FileExistsError, match='train-000005.tar: not one of the 5 shards'):
        write_tar(folder / 'train-000005.tar', *GOOD)
        pack()


@pytest.mark.parametrize(
    ('names', 'message'),
    [
        (['a.b.jpg'], r'a\.b\.jpg: a key ends at the first dot'),
        (['a.jpg', 'a.png'], 'another file of the class has the key cat/a'),
        (['a.heic'], r'images are read as \.jpg, .*, \.bmp; convert this one'),
    ],
)
def test_names_that_make_no_key_are_refused(tmp_path, names, message):
    (tmp_path / 'val/cat').mkdir(parents=True)
    for name in names:
        (tmp_path / 'val/cat' / name).write_bytes(b'x')
    with pytest.raises(ValueError, match=message):
        write_shards(tmp_path, tmp_path / 'out', 'val')


def test_without_disk_space_nothing_is_written(sample, tmp_path, monkeypatch):
    usage = type('Usage', (), {'free': 1000})
    monkeypatch.setattr('comad.data.pack.shutil.disk_usage', lambda _: usage)
    with pytest.raises(OSError, match='0.0 GB are free'):
        write_shards(sample / 'imagenet', tmp_path, 'val')
    assert list((tmp_path / 'val').iterdir()) == []


def test_a_folder_that_cannot_be_written_is_scanned_each_time(shards, monkeypatch, caplog):
    (shards / 'val/index.npz').unlink()

    def refuse(path):
        raise PermissionError(13, 'Permission denied', str(path))

    monkeypatch.setattr('comad.data.index.atomic_file', refuse)
    assert len(TarShards(shards / 'val')) == 20
    assert 'the index cannot be kept' in caplog.text
    assert np.load(shards / 'train/index.npz', allow_pickle=False)['labels'].shape == (30,)
