"""Records: what is kept, what is refused, and that nothing half-written is ever seen."""

import json
import subprocess
import sys

import pytest

from comad.runs.records import build_record, read_records, write_record
from comad.runs.schema import MAX_BYTES, RecordError, record_digest
from tests.leaderboard.examples import (
    ARCHITECTURE,
    ENVIRONMENT,
    make_card,
    make_config,
    make_record,
)


def rewritten(record, **changes):
    """The record with changes and a digest that fits them."""
    changed = {**record, **changes}
    changed['digest'] = record_digest(changed)
    return changed


def test_written_record_is_read_back_whole(tmp_path):
    record = make_record({'accuracy/top1_cls': 43.5, 'top1_mean': 51.25, 'top5_mean': 80.0}).data
    path = write_record(tmp_path, record)
    assert path.name == 'linear_comad_tiny_p0_s0.json'
    assert path.stat().st_size < MAX_BYTES
    accepted, refused = read_records(tmp_path)
    assert refused == []
    assert accepted[0].data == record
    assert record['metrics'] == {'top1_cls': 43.5, 'top1_mean': 51.25}
    assert record['other_metrics'] == {'top5_mean': 80.0}
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


def test_protocol_fields_come_from_the_config():
    config = make_config()
    config['train_dataloader']['batch_size'] = 512
    config['optim_wrapper']['accumulative_counts'] = 2
    config['auto_scale_lr'] = {'enable': True, 'base_batch_size': 1024}
    record = build_record(
        config,
        {'top1_mean': 1.0},
        make_card('comad_tiny'),
        {**ENVIRONMENT, 'world_size': 8},
        wall_seconds=1,
        images_seen=1,
    )
    fields = record['protocol']['fields']
    assert fields['batch'] == 512 * 8 * 2
    assert fields['learning_rate'] == pytest.approx(6.4 * 512 * 8 * 2 / 1024)
    assert fields['length'] == '90 epochs'
    assert fields['resolution'] == 224
    assert fields['precision'] == 'float32'
    assert fields['train_data'] == 'ImageNetFolder(decode=pillow)'
    assert fields['train_crop'].startswith('224 px')


def test_empty_detection_result_is_recorded_without_an_invented_value():
    record = make_record({}, kind='mask_rcnn').data
    assert record['metrics'] == {}
    assert set(record['missing']) == {'bbox_mAP', 'bbox_mAP_50', 'segm_mAP', 'segm_mAP_50'}
    assert record['protocol']['fields']['resolution'] == '1333x800'


@pytest.mark.parametrize(
    ('value', 'reason'),
    [(float('nan'), 'not finite'), (-1.0, 'outside'), (1.5, 'outside'), ('high', 'not a number')],
)
def test_a_metric_that_is_no_figure_is_missing(value, reason):
    record = make_record({'bbox_mAP': value, 'segm_mAP': 0.0}, kind='mask_rcnn').data
    assert reason in record['missing']['bbox_mAP']
    assert record['metrics'] == {'segm_mAP': 0.0}


def test_scratch_student_needs_no_card():
    config = make_config(student='scratch_tiny')
    record = build_record(
        config, {'top1_mean': 1.0}, None, ENVIRONMENT, wall_seconds=1, images_seen=1,
        architecture=ARCHITECTURE, params_m=5.5,
    )  # fmt: skip
    assert record['student']['method'] == 'scratch'
    assert record['student']['sha256'] is None
    assert record['student']['architecture']['num_heads'] == 3


def test_card_of_another_student_is_refused():
    with pytest.raises(RecordError, match="names student 'comad_tiny', the card says 'mae_tiny'"):
        make_record({'top1_mean': 1.0}, card=make_card('mae_tiny'))


@pytest.mark.parametrize('student', ['../../etc_tiny', 'a/b_tiny', 'Tiny_tiny', '.hidden_tiny'])
def test_a_name_cannot_leave_the_folder(tmp_path, student):
    with pytest.raises(RecordError, match='cannot be part of a record name'):
        make_record({'top1_mean': 1.0}, student=student)
    good = make_record({'top1_mean': 1.0}).data
    evil = rewritten(good, student={**good['student'], 'name': student})
    with pytest.raises(RecordError):
        write_record(tmp_path / 'records', evil)
    assert not (tmp_path / 'records').exists()


def test_long_source_is_cut_and_an_oversized_record_is_refused():
    config = make_config()
    config['run']['source'] = 'x' * 20000
    assert len(make_record({'top1_mean': 1.0}, config=config).data['config']['source']) < 2000
    environment = {**ENVIRONMENT, 'notes': 'y' * MAX_BYTES}
    with pytest.raises(RecordError, match="largest part is 'environment'"):
        build_record(
            make_config(), {'top1_mean': 1.0}, make_card('comad_tiny'), environment,
            wall_seconds=1, images_seen=1,
        )  # fmt: skip


def test_bad_files_are_refused_by_name_and_the_others_stay(tmp_path):
    record = make_record({'top1_mean': 50.0}).data
    good = write_record(tmp_path, record)
    text = good.read_text()

    def put(name, contents):
        (tmp_path / name).write_text(contents)

    put('a_truncated.json', text[:500])
    put('b_edited.json', text.replace('50.0', '99.0'))
    put('c_copied.json', text)
    put('d_nan.json', text.replace('50.0', 'NaN'))
    put('e_schema.json', json.dumps({**record, 'schema': 99}))
    put('f_metric.json', json.dumps(rewritten(record, metrics={'top1_best': 99.0})))
    put('g_large.json', text + ' ' * MAX_BYTES)
    put('h_list.json', '[]')
    put('i_task.json', json.dumps(rewritten(record, task='guess')))
    put('j_binary.json', '\x00\x01')
    put('k_absent.json', json.dumps({k: v for k, v in record.items() if k != 'seeds'}))
    put('l_type.json', json.dumps(rewritten(record, wall_seconds='long')))
    (tmp_path / 'm_link.json').symlink_to(good)
    put('notes.txt', 'not looked at')
    accepted, refused = read_records(tmp_path)
    assert [r.file for r in accepted] == [good.name]
    expected = [
        ('a_truncated', 'not valid JSON'),
        ('b_edited', 'was the file edited?'),
        ('c_copied', 'holds the record linear_comad_tiny_p0_s0.json'),
        ('d_nan', 'NaN'),
        ('e_schema', 'schema 99'),
        ('f_metric', "unknown metric 'top1_best'"),
        ('g_large', 'are the limit'),
        ('h_list', 'this is list'),
        ('i_task', "no task is called 'guess'"),
        ('j_binary', 'not valid JSON'),
        ('k_absent', 'seeds is absent'),
        ('l_type', "wall_seconds is 'long', not float or int"),
        ('m_link', 'not a plain file'),
    ]
    assert len(refused) == len(expected)
    for line, (name, reason) in zip(refused, expected, strict=True):
        assert name in line and reason in line and '\n' not in line


def test_two_methods_cannot_share_a_student_file(tmp_path):
    for student in ('comad_tiny', 'mae_tiny'):
        card = make_card(student, sha256='the same')
        write_record(tmp_path, make_record({'top1_mean': 1.0}, student=student, card=card).data)
    accepted, refused = read_records(tmp_path)
    assert accepted == []
    assert len(refused) == 2 and all(
        'comad_tiny of pretraining seed 0 and mae_tiny' in line for line in refused
    )


def test_a_failing_write_leaves_the_old_record_and_no_rest(tmp_path, monkeypatch):
    path = write_record(tmp_path, make_record({'top1_mean': 1.0}).data)
    before = path.read_bytes()

    def fail(*_):
        raise OSError('disk full')

    monkeypatch.setattr('comad.runs.records.os.replace', fail)
    with pytest.raises(OSError, match='disk full'):
        write_record(tmp_path, make_record({'top1_mean': 2.0}).data)
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


def test_the_package_works_without_torch():
    code = (
        'import sys, comad.leaderboard.build, comad.leaderboard.study, comad.leaderboard.text\n'
        'import comad.runs.environment as e; e.collect_environment()\n'
        'assert not {"torch", "mmengine", "timm"} & set(sys.modules)'
    )
    subprocess.run([sys.executable, '-c', code], check=True)
