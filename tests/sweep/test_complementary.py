"""CoMAD's gate with teachers that know some of the classes each: its runs and their table."""

import csv
from collections import Counter
from types import SimpleNamespace

import pytest

from comad.commands.train import parse_args
from comad.data.sample.scenes import CLASSES
from comad.data.subset import read_classes_of
from comad.engine.options import run_options
from comad.engine.run_config import load_run_config
from comad.leaderboard.kept import check_ablations
from comad.leaderboard.study import COMPLEMENTARY_CSV
from comad.runs.place import FILES
from comad.runs.record import write_record
from comad.sweep.complementary import EPOCHS, SETTINGS, complementary
from comad.sweep.finish import finish_complementary
from comad.sweep.grid import RECORDS
from comad.sweep.step import SweepError
from tests.leaderboard.examples import make_record


@pytest.mark.parametrize('setting, known', [(SETTINGS[0], 1), (SETTINGS[1], 2)])
def test_teachers_complete_each_other(setting, known):
    taught = Counter(name for part in setting.lists for name in read_classes_of(part))
    assert taught == dict.fromkeys((f'n{label:08d}' for label in range(len(CLASSES))), known)


def test_every_step_resolves_to_its_own_run():
    steps = complementary(FILES, 2)
    names = [step.name for step in steps]
    assert len(set(names)) == len(names) == 1 + 5 + 2 * 2 * (2 + 4)
    for place, step in enumerate(steps):
        assert set(step.needs) <= set(names[:place])
    for step in steps[1:]:
        cfg = load_run_config(run_options(parse_args(list(step.command[2:]))), check=False)
        if step.name.startswith('teach_'):
            classes = step.name.removeprefix('teach_')
            for part in ('train', 'val', 'test'):
                assert cfg[f'{part}_dataloader'].dataset.classes == classes
            assert cfg.train_dataloader.dataset.subset is None, 'all of the labels'
            assert cfg.model.num_classes == len(read_classes_of(classes))
            assert cfg.train_cfg.max_epochs == EPOCHS
            assert step.outputs[0] == f'{cfg.work_dir}/epoch_{EPOCHS}.pth'
            assert (FILES / step.sources[-1]).stem == classes, 'another list is another teacher'
        elif step.name.startswith('pretrain_'):
            assert step.outputs[0] == f'{cfg.work_dir}/student.safetensors'
            made = {output for need in step.needs for output in by_name(steps, need).outputs}
            assert {teacher.checkpoint for teacher in cfg.model.teachers} <= made
            assert {teacher.arch for teacher in cfg.model.teachers} == {'sample_base'}
        else:
            assert f'{cfg.run.kind}_{cfg.run.student}' in step.name


def by_name(steps, name):
    return next(step for step in steps if step.name == name)


def test_differences_are_taken_within_a_setting(tmp_path):
    outputs = []
    for setting, low in zip(SETTINGS, (50.0, 60.0), strict=True):
        for seed in range(3):
            for leaf, more in (('comad_tiny', 0.0), ('comad_uniform_tiny', 5.0 + 0.1 * seed)):
                metrics = {'top1_mean': low + seed + more}
                made = make_record(metrics, 'linear', setting.student(leaf), seed, seed)
                write_record(tmp_path / RECORDS, made)
                outputs.append(f'{RECORDS}/{made.file}')
    sweep = SimpleNamespace(
        grid='complementary', steps=[SimpleNamespace(outputs=outputs)], is_done=lambda step: True
    )
    reading = finish_complementary(tmp_path, sweep, 3)
    assert reading[:2] == [f'wrote {COMPLEMENTARY_CSV}', f'{SETTINGS[0].text}:']
    assert f'{SETTINGS[1].text}:' in reading
    path = tmp_path / COMPLEMENTARY_CSV
    rows = {row['cell']: row for row in csv.DictReader(path.open())}
    for setting in SETTINGS:
        row = rows[setting.student('comad_uniform_tiny')]
        assert row['paired_difference'] == '+5.10' and row['beyond_noise'] == 'yes'
    assert rows[SETTINGS[1].student('comad_affinity_tiny')]['missing'] == '3 of 3 seeds'
    assert check_ablations(path) == (len(rows), [])
    lines = path.read_text().splitlines()
    path.write_text('\n'.join([*lines, lines[-1]]) + '\n')
    assert 'is there twice' in check_ablations(path)[1][0]
    # Runs of fewer seeds, or of fewer cells, are read, but take no seed away.
    kept = path.read_text()
    for some in (outputs[:2], outputs[2:]):
        sweep.steps = [SimpleNamespace(outputs=some)]
        reading = finish_complementary(tmp_path, sweep, 3)
        assert reading[0].startswith(f'{COMPLEMENTARY_CSV} stays: comad_from_mae_mae')
        assert path.read_text() == kept
    sweep.steps = []
    with pytest.raises(SweepError, match='no complementary has a record'):
        finish_complementary(tmp_path, sweep, 3)
