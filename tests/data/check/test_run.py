"""The command as a user sees it, and what it leaves behind."""

import json
import os
import shutil
from functools import partial

import pytest

from comad.data.check import run
from tests.calls import call
from tests.data.check.examples import check

tool = partial(call, 'data')


@pytest.fixture
def copy(sample, tmp_path):
    return shutil.copytree(sample, tmp_path / 'sample')


def test_the_sample_is_verified_against_its_own_manifest(copy):
    before = (copy / 'manifest.json').read_bytes()
    done = tool('check', 'sample', '--root', copy, '--workers', 2)
    assert (done.returncode, done.stderr) == (0, '')
    assert 'BSD-3-Clause' in done.stdout and 'https://archive.ics.uci.edu' in done.stdout
    assert 'ade/train images: 12' in done.stdout.splitlines()
    assert done.stdout.splitlines()[-1] == f'{copy}: no problems; {copy}/manifest.json'
    image = next((copy / 'imagenet/train/n00000004').iterdir())
    os.truncate(image, 400)
    (copy / 'coco/val2017/000000500001.jpg').unlink()
    done = tool('check', 'sample', '--root', copy, '--workers', 1)
    assert done.returncode == 1
    shown = done.stdout.splitlines()
    name = image.relative_to(copy).as_posix()
    assert any(line.startswith(f'  {name}: cannot be read as an image') for line in shown)
    assert '  coco/val images: 7, expected 8' in shown
    assert f'  {copy}: it holds ' in done.stdout
    (line,) = done.stderr.splitlines()
    assert line.startswith(f'data check: {copy}: 4 problems (wrong count, missing image, damaged')
    assert (copy / 'manifest.json').read_bytes() == before
    assert not (copy / 'check.txt').exists()


def test_an_edited_byte_of_the_sample_is_noticed(copy):
    with next((copy / 'ade').rglob('*.jpg')).open('ab') as file:
        file.write(b'\0')
    outcome = run.check_sample(copy)
    assert outcome.findings.problems == {
        'not as written': [f'{copy}: a file differs from what was written']
    }
    assert run.check_sample(copy, quick=True).findings.problems == {}


@pytest.mark.parametrize(
    ('arguments', 'line'),
    [
        (['check', 'imagnet'], 'imagnet: no such folder (did you mean imagenet?); a check is of'),
        (['check', 'coco', '--root', 'ROOT/none'], 'none: no such folder; expected train2017'),
        (['check', 'sample', '--root', 'ROOT/none'], 'no sample (it has no manifest.json); write'),
        (['check', 'imagenet', '--root', 'ROOT/sample/imagenet'], 'use the name sample'),
        (['check', 'sample', '--root', 'ROOT/sample', '--workers', 0], 'workers=0: expected 1'),
        (['shard', 'imagenet', '--root', 'ROOT/none', '--out', 'ROOT/out'], 'missing data: '),
        (['shard', 'sample', '--root', 'ROOT/sample/imagenet', '--out', 'ROOT/sample/shards'],
         'use the name sample'),
        (['shard', 'sample', '--root', 'ROOT/sample/imagenet', '--out', 'ROOT/out',
          '--images-per-shard', 0], 'images_per_shard=0: expected 1 or more'),
        (['shard', 'sample', '--root', 'ROOT/sample/imagenet', '--out', 'ROOT/out',
          '--original', '--quality', 90], '--quality beside --original: original bytes have'),
        (['shard', 'sample', '--root', 'ROOT/sample/imagenet', '--out', 'ROOT/out',
          '--short-side', 8], 'short_side=8: expected 32 px or more'),
    ],
)  # fmt: skip
def test_refusals_are_one_line(copy, arguments, line):
    arguments = [str(one).replace('ROOT', str(copy.parent)) for one in arguments]
    done = tool(*arguments)
    assert done.returncode == (2 if 'imagnet' in arguments or '/none' in str(arguments) else 1)
    (shown,) = done.stderr.splitlines()
    assert shown.startswith(f'data {arguments[0]}: ') and line in shown
    assert [path.name for path in copy.parent.iterdir()] == ['sample']


def test_shards_from_the_command_line(copy, tmp_path):
    arguments = ['shard', 'sample', '--root', copy / 'imagenet', '--out', tmp_path / 'out',
                 '--images-per-shard', 12, '--workers', 2, '--split', 'train']  # fmt: skip
    done = tool(*arguments)
    assert (done.returncode, done.stderr) == (0, '')
    assert '30 of 30 images of train, 0 s left' in done.stdout
    assert f'{tmp_path}/out/train: 3 shards written' in done.stdout
    assert '3 of 3 shards of train are there: kept' in tool(*arguments).stdout
    settings = json.loads((tmp_path / 'out/train/shards.json').read_text())['settings']
    assert (settings['short_side'], settings['quality']) == (256, 90)
    (line,) = tool(*arguments, '--original').stderr.splitlines()
    assert 'this run has' in line
    assert tool(*arguments[:4], '--out', tmp_path / 'original', '--original').returncode == 0
    manifest = json.loads((tmp_path / 'original/train/shards.json').read_text())
    assert manifest['settings'] == {'images': 'original bytes', 'images_per_shard': 5000}
    assert not (tmp_path / 'out/val').exists()


def test_quick_does_not_replace_a_full_manifest_of_the_same_files(coco):
    quick = check(coco, quick=True)
    path = coco / 'manifest.json'
    manifest = json.loads(path.read_text())
    assert (manifest['content_hashed'], manifest['digest']) == (False, manifest['names_digest'])
    assert 'quick: no image was read, contents are not in the digest' in quick.lines()
    check(coco)
    full = path.read_bytes()
    assert json.loads(full)['content_hashed'] and 'every image decoded' in full.decode()
    again = check(coco, quick=True)
    assert path.read_bytes() == full
    assert again.summary().endswith(
        'manifest.json, kept from a full check of the same names and sizes'
    )
    (coco / 'train2017/000000000001.jpg').unlink()
    check(coco, quick=True)
    assert json.loads(path.read_text())['content_hashed'] is False


def test_another_programs_manifest_is_left_alone(coco):
    (coco / 'manifest.json').write_text('{"name": "my app"}')
    with pytest.raises(FileExistsError, match='was not written by this command; move it away'):
        check(coco)
    assert (coco / 'manifest.json').read_text() == '{"name": "my app"}'


def test_an_old_list_of_problems_goes_when_they_are_gone(coco):
    path = coco / 'val2017/000000500001.jpg'
    path.rename(coco / 'elsewhere')
    check(coco)
    assert (coco / 'check.txt').exists()
    (coco / 'elsewhere').rename(path)
    check(coco)
    assert not (coco / 'check.txt').exists()


def test_ctrl_c_leaves_nothing_half_written(coco):
    before = sorted(coco.rglob('*'))

    def stop(done, total):
        raise KeyboardInterrupt

    for workers in (1, 2):
        with pytest.raises(KeyboardInterrupt):
            check(coco, workers=workers, progress=stop)
    assert sorted(coco.rglob('*')) == before
