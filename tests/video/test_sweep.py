"""The study of video: its cells, and the table that it leaves."""

import csv

import pytest

from comad.engine.options import RunOptions
from comad.engine.run_config import load_run_config
from comad.leaderboard.study import VIDEO_CSV
from comad.runs.place import FILES
from comad.runs.record import write_record
from comad.sweep.finish import finish_study
from comad.sweep.step import SweepError
from comad.sweep.video import AMD, FROZEN, KINDS, SCRATCH, TEACHER, VIDEOMAE, video
from tests.leaderboard.examples import make_config, make_record

SEEDS = 2


@pytest.fixture(scope='module')
def steps():
    return video(FILES, SEEDS)


def test_cells_are_tasks_of_students_and_seeds(steps):
    names = [step.name for step in steps]
    cells = SEEDS * (3 * len(KINDS) + len(FROZEN))
    assert len(set(names)) == len(names) == 1 + 1 + 2 * SEEDS + cells
    for place, step in enumerate(steps):
        assert set(step.needs) <= set(names[:place])
    by_name = {step.name: step for step in steps}
    assert by_name[f'pretrain_{AMD}_p1'].needs == ('video_data', f'pretrain_{TEACHER}_p0')
    assert by_name[f'pretrain_{VIDEOMAE}_p1'].needs == ('video_data',)
    assert by_name[f'ssv2_knn_{SCRATCH}_p0_s1'].needs == ('video_data',)
    assert by_name[f'ssv2_knn_{TEACHER}_p0_s1'].needs == ('video_data', f'pretrain_{TEACHER}_p0')
    sources = by_name[f'ssv2_knn_{AMD}_p1_s1'].sources
    assert {'base_configs/video_ssv2_knn.py', 'base_configs/tracks/sample/video.py'} <= set(sources)


def test_every_cell_resolves_to_its_own_run(steps):
    for step in steps[1:]:
        words = step.command
        chosen = words[words.index('--student') + 1] if '--student' in words else None
        options = RunOptions(
            str(FILES / words[2]), track='sample', student=chosen, seed=int(words[5])
        )
        run = load_run_config(options, check=False).run
        named = f'{run.kind}_{run.student}_p{run.pretrain_seed}'
        assert step.name == (named if run.kind == 'pretrain' else f'{named}_s{run.seed}')


def test_the_table_has_a_row_per_student_and_figure(tmp_path, steps):
    wanted = [step for step in steps if step.name.startswith('ssv2_finetune')]
    for step in wanted:
        student, seeds = step.name.removeprefix('ssv2_finetune_').split('_p')
        pretrain, seed = map(int, seeds.split('_s'))
        config = make_config('linear', student, pretrain, seed)
        config['run']['kind'] = 'ssv2_finetune'
        value = {AMD: 60, VIDEOMAE: 55, SCRATCH: 40}[student] + seed
        metrics = {'top1_mean': value, 'top5_mean': 90.0, 'top1_frozen': 13.0}
        made = make_record(metrics, 'ssv2_finetune', student, pretrain, seed, config)
        write_record(tmp_path / 'results/sample/records', made)
    reading = finish_study(tmp_path, wanted, VIDEO_CSV)
    assert any(
        line.startswith(f'{AMD}, ssv2_finetune top1_frozen_frame: 13.00') for line in reading
    )
    rows = list(csv.DictReader((tmp_path / VIDEO_CSV).open()))
    top1 = {row['student']: row for row in rows if row['metric'] == 'top1'}
    assert {name: (row['mean'], row['sd'], row['n']) for name, row in top1.items()} == {
        AMD: ('60.50', '0.71', '2'),
        VIDEOMAE: ('55.50', '0.71', '2'),
        SCRATCH: ('40.50', '0.71', '2'),
    }
    with pytest.raises(SweepError, match='k400_finetune_.* cannot be used: it does not'):
        finish_study(tmp_path, steps, VIDEO_CSV)
