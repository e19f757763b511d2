"""Shards whose images were made smaller: what they hold, and that nothing takes them for others."""

import hashlib
import io
import json
import os
import shutil
import tarfile

import numpy as np
import pytest
import torch
from PIL import Image

from comad.data.check.imagenet import ImageNetCheck
from comad.data.check.run import check_dataset
from comad.data.imagenet import ImageNetFolder
from comad.data.decode import read_image
from comad.data.manifest import cited_digest
from comad.data.pack import Reencoding
from comad.data.pack import write_shards
from comad.tasks.protocol import ProtocolReader
from tests.data.test_decode import encoded, picture, turned

SMALLER = Reencoding(short_side=64, quality=90)
# Of ImageNet's kinds: CMYK, grey, PNG in a file called JPEG, turned by EXIF, smaller than the rest.
KINDS = {
    'a': encoded(picture(150, 100)),
    'b_cmyk': encoded(picture(150, 100).convert('CMYK')),
    'c_grey': encoded(picture(100, 150).convert('L')),
    'd_png': encoded(picture(150, 100), 'PNG'),
    'e_turned': turned(picture(150, 100)),
    'f_small': encoded(picture(90, 64)),
    'g_small_cmyk': encoded(picture(50, 50).convert('CMYK')),
}


@pytest.fixture
def root(tmp_path):
    """Two classes of the seven kinds in both splits."""
    for split in ('train', 'val'):
        for label, name in enumerate(('cat', 'dog')):
            folder = tmp_path / 'imagenet' / split / name
            folder.mkdir(parents=True)
            for key, data in KINDS.items():
                (folder / f'{name}_{label}{key}.JPEG').write_bytes(data)
    return tmp_path / 'imagenet'


def pack(root, out, reencoding=SMALLER, split='train', per_shard=5, **options):
    return write_shards(root, out, split, per_shard, reencoding=reencoding, **options)


def contents(folder):
    """Member -> bytes of all shards."""
    found = {}
    for path in sorted(folder.glob('*.tar')):
        with tarfile.open(path) as tar:
            found |= {name: tar.extractfile(name).read() for name in tar.getnames()}
    return found


def test_images_shrink_and_small_ones_keep_their_bytes(root, tmp_path):
    assert pack(root, tmp_path / 'out', workers=2) == 3
    found = contents(tmp_path / 'out/train')
    assert len(found) == 28 and found['dog/dog_1a.cls'] == b'1'
    for key, data in KINDS.items():
        made, whole = found[f'cat/cat_0{key}.JPEG'], Image.open(io.BytesIO(data)).convert('RGB')
        if key.startswith(('f', 'g')):
            assert made == data
            continue
        image = Image.open(io.BytesIO(made))
        assert (image.format, image.mode, min(image.size)) == ('JPEG', 'RGB', 64)
        assert image.size == ((64, 96) if key == 'c_grey' else (96, 64))
        assert not image.getexif() and 'progression' not in image.info
        # The pixels are those of Pillow's bicubic resize, as far as quality 90 keeps them.
        expected = np.asarray(whole.resize(image.size, Image.Resampling.BICUBIC), float)
        assert np.abs(np.asarray(image, float) - expected).mean() < 6


@pytest.mark.parametrize('decode', ['pillow', 'opencv'])
def test_shards_show_what_the_folders_show(root, tmp_path, decode):
    pack(root, tmp_path / 'out')
    views = dict(type='CenterCrop', size=56, resize=64)
    folders = ImageNetFolder(root, views=views, decode=decode)
    shards = ImageNetFolder(tmp_path / 'out', views=views, decode=decode)
    assert len(folders) == len(shards) == 14
    assert shards.storage.images == 'short side 64 px, JPEG quality 90'
    assert folders.storage.labels.tolist() == shards.storage.labels.tolist()
    assert folders.storage.names.tolist() == shards.storage.names.tolist()
    for index in range(7):
        one, two = folders[index]['inputs'].float(), shards[index]['inputs'].float()
        # An image turned or mirrored would be 50 away.
        assert (one - two).abs().mean() < 6


def test_the_manifest_tells_settings_versions_and_digests(root, tmp_path):
    pack(root, tmp_path / 'out')
    folder = tmp_path / 'out/train'
    manifest = json.loads((folder / 'shards.json').read_text())
    assert manifest['settings']['short_side'] == 64 and manifest['settings']['quality'] == 90
    assert manifest['settings']['resampling'] == 'Pillow bicubic with antialias'
    assert set(manifest['libraries']) == {'pillow', 'libjpeg-turbo'}
    assert manifest['images'] == 14
    for name, entry in manifest['shards'].items():
        data = (folder / name).read_bytes()
        assert (entry['bytes'], entry['sha256']) == (len(data), hashlib.sha256(data).hexdigest())
    assert [entry['images'] for entry in manifest['shards'].values()] == [5, 5, 4]


def test_bytes_are_the_same_each_time_and_finished_shards_are_kept(root, tmp_path):
    pack(root, tmp_path / 'one')
    pack(root, tmp_path / 'two', workers=2)
    one, two = tmp_path / 'one/train', tmp_path / 'two/train'
    names = sorted(path.name for path in one.glob('*.tar'))
    assert [(one / name).read_bytes() for name in names] == [
        (two / name).read_bytes() for name in names
    ]
    (two / names[1]).unlink()
    inode, lines = (two / names[0]).stat().st_ino, []
    assert pack(root, tmp_path / 'two', report=lines.append) == 1
    assert lines == ['2 of 3 shards of train are there: kept']
    assert (two / names[0]).stat().st_ino == inode
    assert (two / 'shards.json').read_bytes() == (one / 'shards.json').read_bytes()
    # Finished, but the run was stopped before the manifest knew.
    manifest = json.loads((two / 'shards.json').read_text())
    del manifest['shards'][names[2]]
    (two / 'shards.json').write_text(json.dumps(manifest))
    assert pack(root, tmp_path / 'two') == 0
    assert (two / 'shards.json').read_bytes() == (one / 'shards.json').read_bytes()


@pytest.mark.parametrize(
    ('reencoding', 'line'),
    [
        (Reencoding(64, 80), r'made with quality=90, this run has quality=80; use the same'),
        (Reencoding(48, 90), r'made with short_side=64, this run has short_side=48'),
        (None, r"made with format='JPEG, .*', this run has format=None"),
    ],
)
def test_other_settings_are_refused_naming_both(root, tmp_path, reencoding, line):
    pack(root, tmp_path / 'out')
    with pytest.raises(FileExistsError, match=rf'train/shards\.json: {line}') as error:
        pack(root, tmp_path / 'out', reencoding)
    assert '\n' not in str(error.value)


def test_other_versions_are_refused_only_where_something_is_missing(root, tmp_path, monkeypatch):
    pack(root, tmp_path / 'out')
    monkeypatch.setattr('comad.data.pack.PIL.__version__', '1.0')
    assert pack(root, tmp_path / 'out') == 0
    (tmp_path / 'out/train/train-000001.tar').unlink()
    with pytest.raises(FileExistsError, match=r"made by pillow='.*', this run has pillow='1\.0'"):
        pack(root, tmp_path / 'out')


def test_shards_of_other_images_or_lengths_are_refused(root, tmp_path):
    pack(root, tmp_path / 'out')
    os.truncate(tmp_path / 'out/train/train-000001.tar', 2048)
    with pytest.raises(FileExistsError, match=r'000001\.tar: has 2,048 bytes, .* by shards\.json'):
        pack(root, tmp_path / 'out')
    (root / 'train/cat/cat_0a.JPEG').write_bytes(encoded(picture(150, 100, seed=1)))
    with pytest.raises(FileExistsError, match='000000.tar: holds other images'):
        pack(root, tmp_path / 'out')
    shutil.rmtree(tmp_path / 'out')
    pack(root, tmp_path / 'out', None)
    (tmp_path / 'out/train/shards.json').unlink()
    with pytest.raises(FileExistsError, match='000000.tar: was packed without shards.json'):
        pack(root, tmp_path / 'out')


@pytest.mark.parametrize('workers', [1, 2])
@pytest.mark.parametrize('kind', ['a', 'g_small_cmyk'])
def test_an_unreadable_image_stops_in_one_line_and_shards_are_kept(root, tmp_path, kind, workers):
    path = root / f'train/dog/dog_1{kind}.JPEG'
    path.write_bytes(KINDS[kind][:-300])
    with pytest.raises(OSError) as error:
        pack(root, tmp_path / 'out', per_shard=3, workers=workers)
    (line,) = str(error.value).splitlines()
    assert line.startswith(f'{path}: cannot be read as an image (')
    kept = [one.name for one in (tmp_path / 'out/train').glob('*.tar')]
    assert 'train-000000.tar' in kept
    path.write_bytes(KINDS[kind])
    assert pack(root, tmp_path / 'out', per_shard=3) == 5 - len(kept)


def test_the_estimate_of_disk_space_follows_the_smaller_files(root, tmp_path, monkeypatch):
    original = sum(path.stat().st_size for path in (root / 'train').rglob('*.JPEG'))
    usage = type('Usage', (), {'free': original})
    monkeypatch.setattr('comad.data.pack.shutil.disk_usage', lambda _: usage)
    assert pack(root, tmp_path / 'out', per_shard=14) == 1
    with pytest.raises(OSError, match=r'train: 0\.0 GB are needed'):
        pack(root, tmp_path / 'original', None)
    usage.free = original // 8
    with pytest.raises(OSError, match=r'train: about 0\.0 GB are needed, 0\.0 GB are free'):
        pack(root, tmp_path / 'none')


@pytest.mark.parametrize(
    ('options', 'line'),
    [
        (dict(short_side=31), 'short_side=31: expected 32 px or more'),
        (dict(quality=0), 'quality=0: expected 1 to 95'),
        (dict(quality=96), 'quality=96: expected 1 to 95'),
    ],
)
def test_bad_settings_are_refused(options, line):
    with pytest.raises(ValueError, match=line):
        Reencoding(**options)


def test_a_malformed_manifest_is_refused(root, tmp_path):
    pack(root, tmp_path / 'out')
    (tmp_path / 'out/train/shards.json').write_text('{"format": 1}')
    for start in (lambda: pack(root, tmp_path / 'out'), lambda: ImageNetFolder(tmp_path / 'out')):
        with pytest.raises(ValueError, match=r'shards\.json: not written by the shard command'):
            start()


def test_records_and_groups_tell_such_data_from_the_original(root, tmp_path):
    fields, cited = {}, {}
    for name, reencoding in (('original', None), ('small', SMALLER), ('90', Reencoding(90))):
        out = tmp_path / name
        for split in ('train', 'val'):
            pack(root, out, reencoding, split)
        dataset = dict(type='ImageNetFolder', root=str(out), split='train')
        fields[name] = ProtocolReader({'data': dataset}).data('data')
        cited[name] = cited_digest(out)
    dataset = dict(type='ImageNetFolder', root=str(root), split='train')
    assert ProtocolReader({'data': dataset}).data('data') == fields['original']
    assert fields == {
        'original': 'ImageNetFolder(decode=pillow, split=train)',
        'small': 'ImageNetFolder(decode=pillow, images=short side 64 px, JPEG quality 90, '
        'split=train)',
        '90': 'ImageNetFolder(decode=pillow, images=short side 90 px, JPEG quality 90, '
        'split=train)',
    }
    assert len(set(cited.values())) == 3
    assert cited['original'].endswith(' (shards.json)')
    assert cited['small'].endswith(' (shards.json) (re-encoded: short side 64 px, JPEG quality 90)')


def test_every_decoder_is_a_group_of_its_own():
    def text(**options):
        dataset = dict(type='mmengine.ImageNetFolder', **options)
        return ProtocolReader({'data': dataset}).data('data')

    assert text() == text(decode='pillow') != text(decode='opencv')


def test_a_check_says_that_the_digest_is_another(root, tmp_path):
    expected = {'train images': 14, 'val images': 14, 'train classes': 2, 'val classes': 2}
    manifests = {}
    for name, reencoding in (('folders', 0), ('original', None), ('small', SMALLER)):
        place = root if name == 'folders' else tmp_path / name
        if name != 'folders':
            for split in ('train', 'val'):
                pack(root, place, reencoding, split)
        outcome = check_dataset(ImageNetCheck(place, expected, wnids=['cat', 'dog']))
        assert outcome.findings.problems == {}
        manifests[name] = json.loads((place / 'manifest.json').read_text())
    assert manifests['folders']['digest'] == manifests['original']['digest']
    assert manifests['folders']['digest'] != manifests['small']['digest']
    note = 're-encoded (short side 64 px, JPEG quality 90): its digest is not that of the original'
    assert f'train: {note} files' in manifests['small']['notes']
    assert not any('re-encoded' in line for line in manifests['original']['notes'])
    digest = manifests['small']['digest']
    words = ' (re-encoded: short side 64 px, JPEG quality 90)'
    assert cited_digest(tmp_path / 'small') == digest + words
    assert cited_digest(tmp_path / 'original') == manifests['original']['digest']


def test_a_file_of_the_folder_reads_as_its_shard(root, tmp_path):
    """What was re-encoded is exactly what the function says, under the same seed too."""
    pack(root, tmp_path / 'out')
    path = root / 'train/cat/cat_0a.JPEG'
    (tmp_path / 'one.jpg').write_bytes(SMALLER(path.read_bytes(), path))
    data = ImageNetFolder(tmp_path / 'out', views=dict(type='SingleView', size=32))
    torch.manual_seed(4)
    one = data[0]['inputs']
    torch.manual_seed(4)
    assert torch.equal(one, data.views(read_image(tmp_path / 'one.jpg')))
