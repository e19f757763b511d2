"""The study: its table and reading follow from the records alone."""

import csv
import io

import numpy as np
import pytest
from PIL import Image

from comad.leaderboard.background import constant_miou
from comad.leaderboard.study import beside, pooled_sd, read_study, study_rows
from comad.leaderboard.study_table import COLUMNS, complete, read_table, study_csv
from comad.leaderboard.tables import Statistics
from tests.leaderboard.examples import CONFIGS, LINEAR, make_card, make_record

CONFIGS['upernet'] = {**LINEAR, 'protocol': {'name': 'upernet_ade20k', 'version': 1}}


def study(comad=(50.0, 51.0, 52.0), mae=(40.0, 41.0, 42.0), mae_seconds=120.0, ap50=0.2):
    """Records of three seeds: linear (both pools), upernet and mask_rcnn."""
    linear = {'comad_tiny': comad, 'mae_tiny': mae, 'scratch_tiny': (30.0, 31.0, 32.0)}
    records = []

    def add(kind, student, p, metrics):
        seconds = {'comad_tiny': 120.0, 'mae_tiny': mae_seconds}.get(student)
        card = make_card(student, p, pretrain_seconds=seconds)
        records.append(make_record(metrics, kind, student, p, p, card=card))

    for student, values in linear.items():
        for p, value in enumerate(values):
            add('linear', student, p, {'top1_mean': value, 'top1_cls': value / 2})
    for p in range(3):
        add('linear', 'mae_base', p, {'top1_mean': 70.0, 'top1_cls': 60.0})
        for student, gain in (('comad_tiny', 0.1), ('scratch_tiny', 0.0)):
            add('upernet', student, p, {'mIoU': 30.0 + 10 * gain})
            boxes = {'bbox_mAP': 0.1 + gain, 'bbox_mAP_50': ap50, 'segm_mAP': 0.05}
            add('mask_rcnn', student, p, {**boxes, 'segm_mAP_50': 0.1})
    return study_rows(records)


def verdicts(readings):
    return {text.split(':')[0]: passed for text, passed in readings if passed is not None}


def test_everything_holds():
    readings = read_study(study(), background=8.0, renders=4000)
    assert all(passed is not False for _, passed in readings)
    texts = [text for text, _ in readings]
    assert any('= +20.00, at least 10' in text for text in texts)
    # pooled sd of 1 and 1 is 1
    assert any('= +10.00, more than 2.00' in text for text in texts)
    assert any('31.00 +- 0.00 is 3.88 x all-background (8.00)' in text for text in texts)
    beside = [r for r in readings if r.text.startswith('beside: mae_base')]
    assert len(beside) == 2 and all(r.passed is None for r in beside)


@pytest.mark.parametrize(
    ('changes', 'background', 'renders', 'failing'),
    [
        ({'comad': (40.0, 40.9, 40.0)}, 8.0, 4000, 'linear (mean)'),
        ({'mae': (30.0, 50.0, 40.0)}, 8.0, 4000, 'linear (mean)'),
        ({'mae_seconds': 60.0}, 8.0, 4000, 'pretraining'),
        ({'ap50': 0.149}, 8.0, 4000, 'box AP50'),
        ({}, 10.5, 4000, 'mIoU'),
        ({}, 8.0, 3999, 'validation renders'),
    ],
)
def test_a_condition_that_fails_is_named(changes, background, renders, failing):
    readings = read_study(study(**changes), background, renders)
    assert {r.text.split(':')[0] for r in readings if r.passed is False} == {failing}


def test_a_missing_figure_stops_the_reading():
    rows = [row for row in study() if row.task != 'mask_rcnn']
    with pytest.raises(ValueError, match='no mask_rcnn bbox_mAP_50  of comad_tiny'):
        read_study(rows, 8.0, 4000)


def test_table_holds_every_seed():
    table = list(csv.DictReader(io.StringIO(study_csv(complete([], study())[0]))))
    (row,) = [r for r in table if (r['student'], r['pool']) == ('comad_tiny', 'mean')]
    assert row['values'] == '50.00; 51.00; 52.00' and row['seeds'] == '0/0; 1/1; 2/2'
    assert (row['mean'], row['sd'], row['n']) == ('51.00', '1.00', '3')
    assert (row['pretrain_seconds'], row['kind']) == ('120.0', 'measured')
    assert (row['device'], row['cpu'], row['torch']) == ('cpu', 'a processor', '2.11.0')
    # 61.234 GFLOP for each of 64,000 images
    assert row['pretrain_tflop'] == '3919'
    (box,) = [r for r in table if (r['student'], r['metric']) == ('comad_tiny', 'bbox_mAP')]
    assert box['mean'] == '20.00'


def test_a_table_is_completed_and_other_rows_stay_as_they_are(tmp_path):
    path = tmp_path / 'study.csv'
    first = [row for row in study() if row.student != 'mae_tiny']
    table, kept = complete([], first)
    assert kept == 0
    # A table of before there was a column: its rows keep a blank there.
    lines = [
        ','.join(f'"{c[column]}"' for column in COLUMNS if column != 'pretrain_tflop')
        for c in table
    ]
    header = ','.join(column for column in COLUMNS if column != 'pretrain_tflop')
    path.write_text('\n'.join([header, *lines]) + '\n')
    newer = [row for row in study(mae=(60.0, 61.0, 62.0)) if row.student == 'mae_tiny']
    again, kept = complete(read_table(path), newer)
    assert kept == len(first) and len(again) == len(first) + len(newer)
    order = [(r.student, r.task, r.metric, r.pool) for r in study()]
    assert [(c['student'], c['task'], c['metric'], c['pool']) for c in again] == order
    for cells in again:
        fresh = cells['student'] == 'mae_tiny'
        assert (cells['pretrain_tflop'] != '') == fresh
        if fresh and cells['pool'] == 'mean':
            assert cells['mean'] == '61.00'
    assert complete(again, newer)[0] == again


def test_a_table_of_other_columns_is_named(tmp_path):
    assert read_table(tmp_path / 'absent.csv') == []
    (tmp_path / 'other.csv').write_text('student,score\na,1\n')
    with pytest.raises(ValueError, match="other.csv: unknown column 'score'"):
        read_table(tmp_path / 'other.csv')


def test_a_part_of_the_study_is_shown_without_marks():
    (cls, mean) = beside(row for row in study() if row.student == 'mae_base')
    assert cls.text == 'beside: mae_base, linear top1 (cls): 60.00 +- 0.00 (n = 3)'
    assert mean.passed is None and '(mean): 70.00' in mean.text


def test_pooled_sd_weights_by_degrees_of_freedom():
    # (2 * 4 + 4 * 1) / 6 = 2
    assert pooled_sd(Statistics(0, 2.0, 3), Statistics(0, 1.0, 5)) == pytest.approx(2**0.5)


def test_background_value_matches_a_confusion_matrix(tmp_path):
    generator = np.random.default_rng(0)
    labels = generator.choice([0, 1, 2, 3], size=(4, 8, 8), p=[0.1, 0.6, 0.2, 0.1])
    for number, label in enumerate(labels):
        Image.fromarray(label.astype(np.uint8)).save(tmp_path / f'{number}.png')
    truth = labels[labels > 0]
    ious = [np.sum((truth == c) & (c == 1)) / np.sum((truth == c) | (c == 1)) for c in (1, 2, 3)]
    assert constant_miou(tmp_path) == pytest.approx(100 * np.mean(ious))
