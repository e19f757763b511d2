"""The study: its table and its lines follow from the records alone."""

import csv
import io

import pytest

from comad.leaderboard.cells import to_csv
from comad.leaderboard.study import (
    KEY,
    STUDY_COLUMNS,
    complete,
    read_first_look,
    read_study,
    read_table,
    study_rows,
)
from tests.leaderboard.examples import CONFIGS, LINEAR, make_card, make_record

CONFIGS['upernet'] = {**LINEAR, 'protocol': {'name': 'upernet_ade20k', 'version': 1}}


def study(mae=(40.0, 41.0, 42.0)):
    """Records of three seeds: linear (both pools), upernet and mask_rcnn."""
    linear = {'comad_tiny': (50.0, 51.0, 52.0), 'mae_tiny': mae, 'scratch_tiny': (30.0, 31.0, 32.0)}
    records = []

    def add(kind, student, p, metrics):
        seconds = {'comad_tiny': 120.0, 'mae_tiny': 120.0}.get(student)
        card = make_card(student, p, pretrain_seconds=seconds)
        records.append(make_record(metrics, kind, student, p, p, card=card))

    for student, values in linear.items():
        for p, value in enumerate(values):
            add('linear', student, p, {'top1_mean': value, 'top1_cls': value / 2})
    for p in range(3):
        add('linear', 'mae_base', p, {'top1_mean': 70.0, 'top1_cls': 60.0})
        for student, gain in (('comad_tiny', 0.1), ('scratch_tiny', 0.0)):
            add('upernet', student, p, {'mIoU': 30.0 + 10 * gain})
            boxes = {'bbox_mAP': 0.1 + gain, 'bbox_mAP_50': 0.2, 'segm_mAP': 0.05}
            add('mask_rcnn', student, p, {**boxes, 'segm_mAP_50': 0.1})
    return study_rows(records)


def test_table_holds_every_seed():
    table = list(csv.DictReader(io.StringIO(to_csv(study(), STUDY_COLUMNS))))
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
    first = study().query('student != "mae_tiny"')
    table, kept, _ = complete(read_table(tmp_path / 'absent.csv'), first)
    assert kept == 0 and len(table) == len(first)
    # A table of before there was a column: its rows keep a blank there.
    path.write_text(to_csv(table, [name for name in STUDY_COLUMNS if name != 'pretrain_tflop']))
    newer = study(mae=(60.0, 61.0, 62.0)).query('student == "mae_tiny"')
    again, kept, _ = complete(read_table(path), newer)
    assert kept == len(first) and len(again) == len(first) + len(newer)
    assert again[KEY].equals(study()[KEY])
    for cells in again.to_dict('records'):
        fresh = cells['student'] == 'mae_tiny'
        assert (cells['pretrain_tflop'] != '') == fresh
        if fresh and cells['pool'] == 'mean':
            assert cells['mean'] == '61.00'
    assert complete(again, newer)[0].equals(again)


def test_a_row_of_more_seeds_stays_where_versions_are_equal():
    whole = study()[list(STUDY_COLUMNS)]
    fewer = study(mae=(60.0,)).query('student == "mae_tiny"')
    table, kept, left = complete(whole, fewer)
    assert (kept, left) == (len(whole), len(fewer)) and table.equals(complete(whole, whole)[0])
    table, kept, left = complete(whole, fewer.assign(protocol_version='99'))
    assert left == 0 and kept == len(whole) - len(fewer)


def test_a_table_of_other_columns_is_named(tmp_path):
    assert read_table(tmp_path / 'absent.csv').empty
    (tmp_path / 'other.csv').write_text('student,score\na,1\n')
    with pytest.raises(ValueError, match="other.csv: unknown column 'score'"):
        read_table(tmp_path / 'other.csv')


def test_a_first_look_orders_students_and_judges_by_the_noise_of_the_study():
    rows = study().query('student != "mae_base"')
    line = read_first_look(rows, rows)
    linear, upernet, boxes = line.split('; ')
    assert linear == 'linear top1: comad_tiny 51.0 > mae_tiny 41.0 > scratch_tiny 31.0'
    assert upernet == 'upernet mIoU: comad_tiny 31.0 > scratch_tiny 30.0'  # of an sd of 0
    assert boxes == 'mask_rcnn bbox_mAP: comad_tiny 20.0 > scratch_tiny 10.0'
    wide = rows.assign(sd=['10.00'] * len(rows))
    assert 'comad_tiny 51.0 ~ mae_tiny 41.0 ~ scratch' in read_first_look(rows, wide)
    assert 'comad_tiny 51.0 ? mae_tiny' in read_first_look(
        rows, rows.query('student == "mae_tiny"')
    )
    # Noise of another version of the protocol is another noise.
    assert 'comad_tiny 51.0 ? mae_tiny' in read_first_look(rows, rows.assign(protocol_version='0'))


def test_a_row_as_a_line():
    cls, mean = (line for line in read_study(study()) if line.startswith('mae_base'))
    assert cls == 'mae_base, linear top1 (cls): 60.00 +- 0.00 (n = 3)'
    assert '(mean): 70.00' in mean
    (boxes,) = read_study(study().query('student == "comad_tiny" and metric == "bbox_mAP"'))
    assert boxes == 'comad_tiny, mask_rcnn bbox_mAP: 20.00 +- 0.00 (n = 3)'
