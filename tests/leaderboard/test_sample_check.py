"""The sample's check: a verdict per task and teacher, from the records alone."""

import math

import numpy as np
import pytest

from comad.leaderboard.cells import to_csv
from comad.leaderboard.kept import check_sample_check
from comad.leaderboard.sample_check import (
    COLUMNS,
    NEEDED,
    check_block,
    check_rows,
    read_check,
)
from tests.leaderboard.examples import CONFIGS, DETECTION, LINEAR, make_card, make_record

for kind, name in (('knn', 'dino_knn'), ('finetune', 'mae_lite_finetune')):
    CONFIGS[kind] = {**LINEAR, 'protocol': {'name': name, 'version': 1}}
CONFIGS['upernet'] = {**LINEAR, 'protocol': {'name': 'upernet_ade20k', 'version': 1}}
CONFIGS['mask_rcnn'] = DETECTION

RANDOM = {
    'knn': (14.0, 15.0, 16.0),
    'linear': (20.0, 22.0, 24.0),
    'finetune': (30.0, 31.0, 32.0),
    'upernet': (20.0, 21.0, 22.0),
    'mask_rcnn': (8.0, 9.0, 10.0),
}
LEAD = {'knn': 30.0, 'linear': 30.0, 'finetune': 20.0, 'upernet': 20.0, 'mask_rcnn': 20.0}


def metrics(task, value):
    if task in ('knn', 'linear'):
        return {'top1_mean': value, 'top1_cls': value - 5}
    if task == 'finetune':
        return {'top1_mean': value}
    if task == 'upernet':
        return {'mIoU': value}
    return {'bbox_mAP': value / 200, 'bbox_mAP_50': value / 100, 'segm_mAP': value / 300}


def records(lead=LEAD, without=(), random=RANDOM):
    found = []
    for task, values in random.items():
        for seed, value in enumerate(values):
            for student, more in (('scratch_base', 0.0), ('mae_base', lead[task])):
                if (task, student) not in without:
                    card = make_card(student, 0)
                    figures = metrics(task, value + more)
                    found.append(make_record(figures, task, student, 0, seed, card=card))
    return found


def rows_of(**changes):
    rows = check_rows(records(**changes), 'scratch_base', ['mae_base'])
    return {row['task']: row for row in rows.to_dict('records')}


def test_gain_and_noise_are_those_of_the_better_pool():
    rows = rows_of()
    assert list(rows) == list(NEEDED)
    row = rows['linear']
    assert (row['mean'], row['random_mean'], row['n']) == ('52.00', '22.00', '3')
    assert row['pool'] == row['random_pool'] == 'mean'
    assert row['gain'] == '+30.00' and row['passes'] == 'yes'
    noise = math.sqrt((np.var([50, 52, 54], ddof=1) + np.var([20, 22, 24], ddof=1)) / 2)
    assert row['pooled_sd'] == f'{noise:.2f}'
    assert rows['mask_rcnn']['gain'] == '+20.00'


@pytest.mark.parametrize('task', NEEDED)
def test_a_teacher_has_to_be_ahead_by_what_is_needed(task):
    """A tenth of a point less fails, and fails alone."""
    needed = NEEDED[task][1]
    assert rows_of(lead={**LEAD, task: needed})[task]['passes'] == 'yes'
    rows = rows_of(lead={**LEAD, task: needed - 0.1})
    assert [name for name, row in rows.items() if row['passes'] != 'yes'] == [task]


def test_a_lead_within_the_noise_of_seeds_does_not_pass():
    wide = {**RANDOM, 'upernet': (5.0, 21.0, 37.0)}
    assert rows_of(random=wide)['upernet']['passes'] == 'no'


def test_one_seed_has_no_verdict():
    row = rows_of(random={**RANDOM, 'knn': (14.0,)})['knn']
    assert (row['gain'], row['pooled_sd'], row['passes']) == ('+30.00', '', '')
    few = records(random={**RANDOM, 'knn': (14.0,)})
    lines = read_check(check_rows(few, 'scratch_base', ['mae_base']))
    assert sum(line.endswith('of 20 needed: one seed tells no noise') for line in lines) == 1
    assert lines[-1].startswith('The sample is not judged from one seed: 4 of 5 comparisons hold')


def test_the_reading_ends_with_the_verdict_and_says_what_is_missing():
    lines = read_check(check_rows(records(), 'scratch_base', ['mae_base']))
    assert lines[-1] == 'The sample passes: 5 of 5 comparisons hold, each over at least 3 seeds.'
    found = 'mae_base 52.00 +- 2.00 (n = 3, mean), +30.00 of 20 needed: passes'
    assert any(found in line for line in lines)
    some = records(without={('knn', 'mae_base'), ('upernet', 'scratch_base')})
    lines = read_check(check_rows(some, 'scratch_base', ['mae_base']))
    assert lines[-1] == (
        'The sample does not pass: 3 of 5 comparisons hold, each over at least 0 seeds.'
    )
    assert sum('runs are missing' in line for line in lines) == 2


def test_a_kept_table_has_to_agree_with_itself(tmp_path):
    path = tmp_path / 'sample_check.csv'
    rows = check_rows(records(), 'scratch_base', ['mae_base'])
    path.write_text(to_csv(rows, COLUMNS))
    assert check_sample_check(path) == (5, [])
    changes = {
        1: dict(random_mean='15.50'),  # its gain is another one then
        3: dict(mean='15.00', gain='-16.00'),  # fails, and claims to pass
        4: dict(random_sd='30.00'),
    }
    for number, change in changes.items():
        changed = rows.copy()
        for name, value in change.items():
            changed.loc[number - 1, name] = value
        path.write_text(to_csv(changed, COLUMNS))
        (line,) = check_sample_check(path)[1]
        assert f'sample_check.csv, row {number} (' in line
    path.write_text('task,teacher\n')
    assert 'columns are' in check_sample_check(path)[1][0]


def test_the_page_shows_a_line_per_task(tmp_path):
    path = tmp_path / 'sample_check.csv'
    assert check_block(path) == 'The check has not been run yet.'
    path.write_text(to_csv(check_rows(records(), 'scratch_base', ['mae_base']), COLUMNS))
    lines = check_block(path).splitlines()
    assert lines[0] == '| task | random weights | `mae_base` | lead needed |'
    assert lines[3] == '| linear, top1 | 22.00 ± 2.00 (3) | 52.00 ± 2.00 (3) | 20 |'
    assert (
        lines[-1] == 'The sample passes: 5 of 5 comparisons hold, each over at least 3 seeds.'
        and len(lines) == 9
    )
