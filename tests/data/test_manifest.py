"""Which data a run record cites."""

import hashlib
import json

import pytest

from comad.data.manifest import cited_digest, data_manifest, digest_lines
from tests.resolved import leaves, resolved


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def put(path, here, **content):
    file = here / path / 'manifest.json'
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(content))


OURS = dict(name='imagenet', format=1, digest='a' * 64, content_hashed=True)
SAMPLE = dict(version=3, seed=0, sha256='b' * 64)


def test_the_digest_is_over_sorted_names_sizes_and_contents():
    text = 'a\x003\x00x\nb\x001\x00-\n'
    expected = hashlib.sha256(text.encode()).hexdigest()
    assert digest_lines([('b', 1, None), ('a', 3, 'x')]) == expected


def test_manifests_are_found_at_the_root_or_above(here):
    put('data/imagenet', here, **OURS)
    put('data/sample', here, **SAMPLE)
    assert cited_digest('data/imagenet') == 'a' * 64
    assert cited_digest('data/sample/ade/ADEChallengeData2016') == 'b' * 64
    assert cited_digest('data/sample/coco/') == 'b' * 64
    assert cited_digest('data/sample/a/b/c') is None
    assert cited_digest('data/coco') is None


def test_nothing_in_or_above_data_counts(here):
    put('data', here, **OURS)
    put('.', here, **OURS)
    assert cited_digest('data/coco') is None
    assert cited_digest(here / 'data/coco') is None


@pytest.mark.parametrize('content', [{}, {'digest': 'short'}, {'digest': None}, {'name': 'x'}])
def test_other_files_of_that_name_are_no_evidence(here, content):
    put('data/coco', here, **content)
    assert cited_digest('data/coco') is None
    (here / 'data/coco/manifest.json').write_text('[]')
    assert cited_digest('data/coco') is None


def test_a_quick_digest_says_so(here):
    put('data/coco', here, **{**OURS, 'content_hashed': False})
    assert cited_digest('data/coco') == 'a' * 64 + ' (names and sizes only)'


def test_a_config_cites_all_data_that_its_loaders_read(here):
    put('data/imagenet', here, **OURS)
    put('data/shards', here, **{**OURS, 'digest': 'c' * 64})

    def loader(root, key='root'):
        return {'dataset': {'type': 'Wrapper', 'datasets': [{key: root}]}}

    train, val = loader('data/imagenet'), loader('data/imagenet', 'data_root')
    training = {'train_cfg': {}, 'train_dataloader': train, 'val_dataloader': val}
    assert data_manifest(training) == 'a' * 64
    # A training does not read its test data, a test not its training data.
    other = loader('data/nowhere')
    assert data_manifest({**training, 'test_dataloader': other}) == 'a' * 64
    assert data_manifest({'test_dataloader': val, 'train_dataloader': other}) == 'a' * 64
    both = {'test_dataloader': train, 'test_cfg': {'bank_dataloader': loader('data/shards')}}
    assert data_manifest(both) == 'c' * 64 + '+' + 'a' * 64
    assert data_manifest({**training, 'val_dataloader': other}) is None
    assert data_manifest({'test_dataloader': None, 'test_cfg': None}) is None


@pytest.mark.parametrize('path', leaves('cls', 'seg', 'det'), ids=lambda path: path.stem)
def test_every_leaf_on_the_sample_cites_the_sample(here, path):
    put('data/sample', here, **SAMPLE)
    assert data_manifest(resolved(path, sample=True)) == 'b' * 64
