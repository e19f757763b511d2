"""Runs on other data than they were meant for: cards, records and tables say what was read."""

import json
import logging
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from comad.data.sample.write import SampleSizes, write_sample
from comad.engine.launch import launch
from comad.engine.options import RunOptions
from comad.engine.run_data import check_classes, warn_unranked
from comad.leaderboard.tables import make_leaderboards
from comad.runs.card import read_student_card
from comad.runs.place import FILES, PUBLISHED_CSV
from comad.runs.record import read_records
from tests.methods.small_run import write_images

PUBLISHED = PUBLISHED_CSV.absolute()
LOADERS = ('test_dataloader', 'test_cfg.bank_dataloader')


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv('COMAD_TRACEBACK', '1')
    return tmp_path


def write_digits():
    sizes = SampleSizes(imagenet_train=40, imagenet_val=20, scenes_train=1, scenes_val=1)
    write_sample('data/sample', seed=1, sizes=sizes)


def start(leaf, **changes):
    options = {f'{key}.num_workers': 0 for key in LOADERS} if 'knn' in leaf else {}
    return launch(
        RunOptions(
            config=str(FILES / leaf),
            student=None if 'pretrain' in leaf else 'scratch_tiny',
            cfg_options={'model.backbone.depth': 1, **options, **changes},
        )
    )


def nearest_neighbours(root):
    data = {f'{key}.dataset.root': root for key in (*LOADERS, 'bank_dataloader')}
    data |= {'test_cfg.neighbours': [5], 'test_cfg.report_k': 5}
    return start('cls_configs/knn_comad_tiny.py', **data)


def test_neighbours_among_digits_are_in_no_full_scale_table():
    write_digits()
    assert nearest_neighbours('data/sample/imagenet') == 0
    ((record,), refused) = read_records('results/records')
    assert refused == [] and record.track == 'full'
    digest = json.loads(Path('data/sample/manifest.json').read_text())['sha256']
    for data, split, images in (
        (record.dataset, 'val', 20),
        (record.train_dataset, 'train', 40),
    ):
        assert (data.name, data.split, data.images, data.classes) == ('sample', split, images, 10)
        assert data.manifest == digest
    assert record.environment.world_size == 1
    boards = make_leaderboards(records='results/records', published=PUBLISHED)
    assert all(boards.tables['classification']['kind'] == 'published')
    (line,) = boards.refused
    assert "evaluated on 'sample' (10 classes, 20 images), not on 'imagenet-1k'" in line


def test_random_images_in_two_folders_are_in_no_full_scale_table(folder, capsys, monkeypatch):
    generator = np.random.default_rng(0)
    for split in ('train', 'val'):
        for label in ('a', 'b'):
            place = folder / 'data/imagenet' / split / label
            place.mkdir(parents=True)
            for number in range(6):
                pixels = generator.integers(0, 256, (40, 40, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(place / f'{number}.png')
    facts = dict(name='imagenet', digest='a' * 64, problems=2010, content_hashed=True)
    (folder / 'data/imagenet/manifest.json').write_text(json.dumps(facts))
    assert nearest_neighbours('data/imagenet') == 0
    said = capsys.readouterr()
    (warning,) = [
        line for line in said.err.splitlines() + said.out.splitlines() if 'will not' in line
    ]
    assert "this run's row will not be ranked" in warning
    assert 'dataset.problems is 2010' in warning
    boards = make_leaderboards(records='results/records', published=PUBLISHED)
    assert (
        "evaluated on 'imagenet' (2 classes, 12 images), not on 'imagenet-1k'" in boards.refused[0]
    )
    # A head of another width is told before anything is trained.
    monkeypatch.delenv('COMAD_TRACEBACK')
    assert start('cls_configs/linear_comad_tiny.py') == 2
    assert (
        'error: model.num_classes is 1000, but imagenet (train) has 2 classes: --cfg-options '
        'model.num_classes=2' in capsys.readouterr().err
    )


def test_a_pretraining_on_digits_makes_a_student_of_the_sample():
    write_digits()
    changes = {
        'train_dataloader.dataset.root': 'data/sample/imagenet',
        'train_dataloader.dataset.views.size': 32,
        'train_dataloader.batch_size': 20,
        'train_dataloader.num_workers': 0,
        'train_dataloader.persistent_workers': False,
        'model.backbone.img_size': 32,
        'train_cfg.max_epochs': 1,
        'default_hooks.online_probe': None,
        'param_scheduler': [],
    }
    assert start('pretrain_configs/mae_tiny.py', **changes) == 0
    card = read_student_card('work_dirs/pretrain/mae_tiny/seed0/student.json')
    assert (card.data.name, card.data.images, card.data.problems) == ('sample', 40, 0)
    assert card.track == 'sample' and card.data.manifest and card.unit == 'image'


def test_heads_are_compared_with_the_classes_of_the_data(folder):
    from comad.data.imagenet import ImageNetFolder

    write_images(folder / 'images', per_class=2)
    dataset = ImageNetFolder(folder / 'images')
    check_classes({'type': 'FrozenFeatures'}, dataset)
    check_classes({'head': {'num_classes': 2}, 'backbone': {'num_classes': 7}}, dataset)
    with pytest.raises(ValueError, match=r'model.heads.1.num_classes is 3, but images \(train\)'):
        check_classes({'heads': [{'num_classes': 2}, {'num_classes': 3}]}, dataset)


def test_one_warning_says_what_keeps_a_row_from_being_ranked(caplog, monkeypatch):
    runner = SimpleNamespace(logger=logging.getLogger('unranked'))
    warn_unranked(runner, 'this row', [])
    assert caplog.text == ''
    monkeypatch.setattr('comad.engine.run_data.git_complaint', lambda: 'dubious ownership')
    warn_unranked(runner, 'this row', ['environment.git_commit is null, no commit', 'b'])
    (line,) = caplog.messages
    assert line == (
        'this row will not be ranked: environment.git_commit is null, no commit; b; '
        'git says: dubious ownership'
    )
