"""Equal cost: the rule in numbers, and what a run with it is called."""

import json

import pytest

from comad.engine.equal_compute import equal_epochs, parse_budget
from comad.engine.options import ConfigError, RunOptions, command_of
from comad.engine.paths import check_paths
from comad.engine.run_config import load_run_config
from comad.runs.place import equal_method, get_track, split_equal


def write_card(root, student, gflop, images, epochs):
    folder = root / student / 'seed0'
    folder.mkdir(parents=True)
    card = dict(pretrain_gflop_per_image=gflop, images_seen=images, epochs=epochs)
    (folder / 'student.json').write_text(json.dumps(card))


@pytest.mark.parametrize(
    ('gflop', 'factor', 'expected'),
    [
        (2.0, 1, 10),  # the reference's own cost
        (0.5, 1, 40),
        (6.0, 1, 3),  # 3.33: 3 is nearer than 4
        (6.0, 2, 7),  # 6.67
        (500.0, 1, 1),  # never none
    ],
)
def test_epochs_are_those_nearest_to_the_budget(tmp_path, gflop, factor, expected):
    write_card(tmp_path, 'comad_tiny', 2.0, 1000, 10)
    write_card(tmp_path, 'dmt_tiny', gflop, 300, 3)  # 100 images an epoch, as the reference
    assert equal_epochs('dmt_tiny', f'comad_tiny:{factor}', tmp_path) == expected


def test_an_epoch_may_hold_another_number_of_images(tmp_path):
    write_card(tmp_path, 'comad_tiny', 2.0, 1000, 10)
    write_card(tmp_path, 'other_tiny', 2.0, 400, 2)
    assert equal_epochs('other_tiny', 'comad_tiny:1', tmp_path) == 5


def test_what_is_missing_is_named(tmp_path):
    write_card(tmp_path, 'comad_tiny', 2.0, 1000, 10)
    write_card(tmp_path, 'old_tiny', None, 1000, 10)
    for student in ('dmt_tiny', 'old_tiny'):
        with pytest.raises(ValueError, match=f'{student}/seed0/student.json does not state'):
            equal_epochs(student, 'comad_tiny:1', tmp_path)
    for text in ('comad_tiny', 'comad_tiny:0', 'comad_tiny:1.5', ':2'):
        with pytest.raises(ValueError, match='expected STUDENT:FACTOR'):
            parse_budget(text)


def test_names():
    assert parse_budget('comad_tiny:12') == ('comad_tiny', 12)
    assert split_equal(equal_method('dmt', 4)) == ('dmt', 4)
    assert split_equal('dmt_mean') == ('dmt_mean', 0)


def test_a_run_has_its_own_length_name_and_digest(tmp_path, monkeypatch):
    monkeypatch.setattr('comad.engine.run_config.check_paths', lambda cfg, sample: None)
    monkeypatch.setattr('comad.engine.run_config.pretrain_root', lambda sample: str(tmp_path))
    write_card(tmp_path, 'comad_tiny', 2.0, 1000, 2)
    write_card(tmp_path, 'mae_tiny', 0.5, 3500, 7)
    path = 'pretrain_configs/mae_tiny.py'
    options = RunOptions(path, track='sample', compute_of='comad_tiny:2', seed=1)
    cfg, own = load_run_config(options), load_run_config(RunOptions(path, track='sample', seed=1))
    assert (own.train_cfg.max_epochs, cfg.train_cfg.max_epochs) == (7, 16)
    assert cfg.work_dir == 'work_dirs/sample/pretrain/mae_equal2_tiny/seed1'
    assert (cfg.run.student, cfg.run.method) == ('mae_equal2_tiny', 'mae_equal2')
    assert cfg.run.digest != own.run.digest
    assert command_of(vars(options)).endswith('--sample --seed 1 --compute-of comad_tiny:2')
    with pytest.raises(ConfigError, match='belongs to pretraining'):
        load_run_config(RunOptions('cls_configs/linear_comad_tiny.py', compute_of='comad_tiny:2'))
    with pytest.raises(ConfigError, match='expected STUDENT:FACTOR'):
        load_run_config(RunOptions(path, compute_of='comad'))


@pytest.mark.parametrize(
    ('student', 'end'),
    [
        ('mae_equal2_tiny:1', 'tools/pretrain.sh mae --seed 1 --compute-of STUDENT:2'),
        (
            'comda_tiny',
            'no pretrain_configs/comda_tiny.py makes it (did you mean comad_tiny or '
            'comad_pca_tiny or mae_tiny?); a student has the name of its config, such as '
            'comad_tiny',
        ),
    ],
)
def test_a_missing_student_is_told_with_the_command_if_there_is_one(student, end):
    options = RunOptions('cls_configs/linear_comad_tiny.py', student=student)
    options = RunOptions(**{**vars(options), 'cfg_options': {'train_dataloader.dataset.root': '.'}})
    with pytest.raises(ConfigError) as caught:
        cfg = load_run_config(options, check=False)
        for loader in ('train', 'val', 'test'):
            if f'{loader}_dataloader' in cfg:
                cfg[f'{loader}_dataloader'].dataset.root = '.'
        check_paths(cfg, get_track('full'))
    assert str(caught.value).endswith(end)
