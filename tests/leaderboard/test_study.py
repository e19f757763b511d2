"""The study: its table and reading follow from the records alone."""

import csv
import io

import numpy as np
import pytest
from PIL import Image

from comad.leaderboard.background import constant_miou
from comad.leaderboard.study import pooled_sd, read_study, study_csv, study_rows
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
    table = list(csv.DictReader(io.StringIO(study_csv(study()))))
    (row,) = [r for r in table if (r['student'], r['pool']) == ('comad_tiny', 'mean')]
    assert row['values'] == '50.00; 51.00; 52.00' and row['seeds'] == '0/0; 1/1; 2/2'
    assert (row['mean'], row['sd'], row['n']) == ('51.00', '1.00', '3')
    assert (row['pretrain_seconds'], row['kind']) == ('120.0', 'measured')
    assert (row['device'], row['cpu'], row['torch']) == ('cpu', 'a processor', '2.11.0')
    (box,) = [r for r in table if (r['student'], r['metric']) == ('comad_tiny', 'bbox_mAP')]
    assert box['mean'] == '20.00'


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
