"""Tables: means, ties and ranks against hand computations, groups, and equal bytes."""

import csv
import io
import random

import pytest

from comad.leaderboard.outputs import format_table
from comad.leaderboard.published import read_published
from comad.leaderboard.tables import (
    COLUMNS,
    Statistics,
    build_leaderboards,
    is_tie,
    statistics,
    to_csv,
)
from comad.runs.place import RESULTS
from comad.runs.record import write_record
from tests.leaderboard.examples import make_card, make_config, make_record, rows_of, table_of


def seeds(values, student='comad_tiny', kind='linear', metric='top1_mean', **options):
    return [
        make_record({metric: value}, kind, student, pretrain_seed=p, seed=p, **options)
        for p, value in enumerate(values)
    ]


def ranks(rows):
    return {(r['method'], r['metric'], r['pool']): r['rank'] for r in rows}


def test_mean_and_sd_over_pretraining_seeds():
    # Transfers of one pretraining are averaged first: units are 41, 44 and 47.
    found = statistics([(0, 0, 40.0), (0, 1, 42.0), (1, 0, 44.0), (2, 0, 47.0)])
    assert found == Statistics(pytest.approx(44.0), pytest.approx(3.0), 3)


def test_seeds_of_a_single_pretraining_are_transfers():
    found = statistics([(0, 0, 40.0), (0, 1, 41.0), (0, 2, 45.0)])
    # mean 42, squares 4 + 1 + 9 = 14, 14 / 2 = 7
    assert found == Statistics(pytest.approx(42.0), pytest.approx(7**0.5), 3)
    assert statistics([(0, 0, 40.0)]) == Statistics(40.0, None, 1)


def test_tie_threshold():
    # 2 sqrt(1.5^2 / 3 + 2^2 / 4) = 2 sqrt(0.75 + 1) = 2.6458
    first, other = Statistics(50.0, 1.5, 3), Statistics(52.645, 2.0, 4)
    assert is_tie(first, other)
    assert not is_tie(first, Statistics(52.646, 2.0, 4))
    assert is_tie(Statistics(50.0, 0.0, 3), Statistics(50.0, 0.0, 3))


def test_ranks_ties_and_too_few_seeds():
    records = [
        *seeds([60.0, 61.0, 62.0], 'comad_tiny'),  # 61 +- 1
        *seeds([59.0, 60.0, 61.0], 'mae_tiny'),  # 60 +- 1: 1 < 2 sqrt(2/3) = 1.63, a tie
        *seeds([58.0, 59.0, 60.0], 'ibot_tiny'),  # 59: 2 from the first, no tie
        *seeds([90.0, 91.0], 'mocov3_tiny'),  # two seeds only
    ]
    table = table_of('classification', records)
    found = ranks(table.to_dict('records'))
    assert found['comad', 'top1', 'mean'] == '1'
    assert found['mae', 'top1', 'mean'] == '1'
    assert found['ibot', 'top1', 'mean'] == '3'
    assert found['mocov3', 'top1', 'mean'] == ''
    assert list(table['method']) == ['mocov3', 'comad', 'mae', 'ibot']
    text = format_table('classification', table)
    assert '1=    comad' in text and '3     ibot' in text and '61.00 +- 1.00' in text


def test_row_carries_every_column():
    table = table_of('classification', seeds([50.0, 51.0, 52.0]))
    assert tuple(table)[: len(COLUMNS)] == COLUMNS
    assert table[list(COLUMNS)].to_dict('records')[0] == {
        'rank': '1',
        'method': 'comad',
        'method_version': '1',
        'student': 'ViT-Tiny/16',
        'heads': '3',
        'params_m': '5.52',
        'teachers': 'mae',
        'pretrain_data': 'imagenet-1k',
        'pretrain_epochs': '300',
        'pretrain_gflop_per_image': '61.2',
        'protocol': 'mae_linear',
        'protocol_version': '1',
        'pool': 'mean',
        'resolution': '224',
        'metric': 'top1',
        'value': '51.00',
        'sd': '1.00',
        'n': '3',
        'kind': 'measured',
        'evidence': '',
        'source': '',
        'pretrain_hours': '2',
        'records': '; '.join(f'linear_comad_tiny_p{i}_s{i}.json' for i in range(3)),
    }


def test_pools_metrics_and_protocols_are_ranked_apart():
    other = make_config(student='ibot_tiny')
    other['train_cfg']['max_epochs'] = 100
    records = [
        *seeds([60.0, 61.0, 62.0], 'comad_tiny'),
        *seeds([20.0, 21.0, 22.0], 'mae_tiny', metric='top1_cls'),
    ]
    for p in range(3):
        config = {**other, 'run': {**other['run'], 'seed': p, 'pretrain_seed': p}}
        records += [make_record({'top1_mean': 10.0}, 'linear', 'ibot_tiny', p, p, config=config)]
    rows = rows_of('classification', records)
    assert set(ranks(rows).values()) == {'1'}
    protocols = {r['method']: r['protocol'] for r in rows}
    assert protocols['comad'] == protocols['mae'] != protocols['ibot']
    assert all(p.startswith('mae_linear@') for p in protocols.values())


def test_unknown_protocol_field_is_not_ranked():
    records = []
    for p in range(3):
        config = make_config('linear', 'comad_tiny', p, p)
        del config['train_cfg']
        records.append(make_record({'top1_mean': 60.0 + p}, 'linear', 'comad_tiny', p, p, config))
    (row,) = rows_of('classification', records)
    assert row['n'] == '3' and row['rank'] == ''


def test_a_seed_without_a_result_keeps_its_row_unranked(tmp_path):
    records = seeds([0.2, 0.22, 0.24, 0.26], kind='mask_rcnn', metric='bbox_mAP')
    records[3] = make_record({}, 'mask_rcnn', 'comad_tiny', 3, 3)
    (row,) = rows_of('detection', records)
    assert (row['value'], row['n'], row['rank']) == ('22.00', '3', '')
    for record in records:
        write_record(tmp_path / 'records', record)
    boards = build_leaderboards('full', tmp_path / 'records', tmp_path)
    assert any('p3_s3.json: no bbox_mAP (not reported' in note for note in boards.notes)


def test_different_pretraining_configs_are_no_seeds_of_each_other():
    records = seeds([60.0, 61.0])
    card = make_card('comad_tiny', 2, config_digest='another')
    records.append(make_record({'top1_mean': 62.0}, 'linear', 'comad_tiny', 2, 2, card=card))
    rows = rows_of('classification', records)
    assert sorted(r['n'] for r in rows) == ['1', '2']


def test_equal_records_give_equal_bytes_in_any_order():
    records = [
        *seeds([60.0, 61.0, 62.0], 'comad_tiny'),
        *seeds([60.0, 61.0, 62.0], 'mae_tiny'),
        *seeds([50.0], 'mae_tiny', kind='finetune'),
    ]
    published = read_published().accepted
    first = to_csv(table_of('classification', records, published))
    for attempt in range(5):
        shuffled = random.Random(attempt).sample(records, len(records))
        rows = published.sample(frac=1, random_state=attempt)
        assert to_csv(table_of('classification', shuffled, rows)) == first


def test_published_rows_stand_apart_and_unranked():
    published = read_published().accepted
    rows = rows_of('classification', seeds([10.0, 11.0, 12.0]), published)
    assert [r['kind'] for r in rows[:2]] == ['measured', 'published']
    assert rows[0]['rank'] == '1'
    others = [r for r in rows if r['kind'] == 'published']
    assert all(c['rank'] == '' and c['source'] and c['evidence'] for c in others)
    (comad,) = [c for c in others if c['method'] == 'CoMAD']
    assert (comad['value'], comad['evidence'], comad['protocol']) == ('75.4', 'abstract', '')
    assert not any('ssv2' in str(c) or 'kinetics' in str(c) for c in others)


def test_full_scale_tables_without_records_hold_the_published_rows(tmp_path):
    boards = build_leaderboards('full', None, tmp_path)
    for name, path in boards.files.items():
        rows = list(csv.DictReader(io.StringIO(path.read_text())))
        own = ('gain',) if name == 'distillation' else ()
        assert tuple(rows[0]) == (*COLUMNS, *own)
        assert len(rows) == len(boards.tables[name]) > 10
    detection = list(csv.DictReader(io.StringIO(boards.files['detection'].read_text())))
    values = {(r['method'], r['metric']): r['value'] for r in detection}
    assert values['CoMAD', 'bbox_mAP'] == '44.5' and values['CoMAD', 'segm_mAP'] == '40.5'


def test_committed_tables_are_what_records_and_published_figures_give(tmp_path):
    boards = build_leaderboards('full', None, tmp_path)
    assert boards.refused == []
    for name, path in boards.files.items():
        committed = RESULTS / f'leaderboard_{name}.csv'
        assert committed.read_bytes() == path.read_bytes(), 'run python tools/leaderboard.py'


def test_records_of_the_other_scale_are_refused(tmp_path):
    write_record(tmp_path, make_record({'top1_mean': 1.0}))
    boards = build_leaderboards('sample', tmp_path, tmp_path / 'out')
    assert boards.tables['classification'].empty
    assert 'a record of full scale in a folder of the embedded sample' in boards.refused[0]
