"""The record of an evaluation: what is taken from its config, metrics and card."""

import pytest

from comad.runs.record import MAX_BYTES, RecordError
from comad.tasks.recording import build_record, check_task
from tests.leaderboard.examples import (
    ARCHITECTURE,
    ENVIRONMENT,
    changed,
    make_card,
    make_config,
    make_data,
    make_record,
)

DATA = {'dataset': make_data(), 'train_dataset': make_data(split='train')}


def build(config, card=None, environment=ENVIRONMENT, **others):
    facts = {**DATA, 'wall_seconds': 1, 'images_seen': 1, **others}
    return build_record(config, {'top1_mean': 1.0}, card, environment, **facts)


def test_protocol_fields_come_from_the_config():
    config = make_config()
    config['train_dataloader']['batch_size'] = 512
    config['optim_wrapper']['accumulative_counts'] = 2
    config['auto_scale_lr'] = {'enable': True, 'base_batch_size': 1024}
    record = build(config, make_card('comad_tiny'), {**ENVIRONMENT, 'world_size': 8})
    fields = record.protocol.fields
    assert fields['batch'] == 512 * 8 * 2
    assert fields['learning_rate'] == pytest.approx(6.4 * 512 * 8 * 2 / 1024)
    assert fields['length'] == '90 epochs'
    assert fields['resolution'] == 224
    assert fields['precision'] == 'float32'
    assert fields['train_data'] == 'ImageNetFolder(decode=pillow)'
    assert fields['train_crop'].startswith('224 px')
    assert (record.dataset.split, record.train_dataset.split) == ('val', 'train')


def test_empty_detection_result_is_recorded_without_an_invented_value():
    record = make_record({}, kind='mask_rcnn')
    assert record.metrics == {}
    assert set(record.missing) == {'bbox_mAP', 'bbox_mAP_50', 'segm_mAP', 'segm_mAP_50'}
    assert record.protocol.fields['resolution'] == '1333x800'


@pytest.mark.parametrize(
    ('value', 'reason'),
    [(float('nan'), 'not finite'), (-1.0, 'outside'), (1.5, 'outside'), ('high', 'not a number')],
)
def test_a_metric_that_is_no_figure_is_missing(value, reason):
    record = make_record({'bbox_mAP': value, 'segm_mAP': 0.0}, kind='mask_rcnn')
    assert reason in record.missing['bbox_mAP']
    assert record.metrics == {'segm_mAP': 0.0}


def test_scratch_student_needs_no_card():
    config = make_config(student='scratch_tiny')
    record = build(config, architecture=ARCHITECTURE, params_m=5.5)
    assert record.student.method == 'scratch'
    assert record.student.sha256 is None and record.student.data is None
    assert record.student.architecture['num_heads'] == 3


def test_the_card_says_what_the_student_was_pretrained_on():
    small = make_data('flowers', 'train', images=120, classes=3, manifest=None, subset='share 0.5')
    record = make_record({'top1_mean': 1.0}, card=make_card('comad_tiny', data=small))
    assert record.student.data == small and record.student.pretrain_data == 'flowers, share 0.5'
    # What an earlier version was told that its data are is no reading of them.
    old = make_record({'top1_mean': 1.0}, card=make_card('comad_tiny', data='imagenet-1k'))
    assert old.student.data is None


def test_card_of_another_student_is_refused():
    with pytest.raises(RecordError, match="names student 'comad_tiny', the card says 'mae_tiny'"):
        make_record({'top1_mean': 1.0}, card=make_card('mae_tiny'))


@pytest.mark.parametrize('student', ['../../etc_tiny', 'a/b_tiny', 'Tiny_tiny', '.hidden_tiny'])
def test_a_name_cannot_leave_the_folder(student):
    with pytest.raises(RecordError, match=r'Expected str matching regex .* - at \$.student.'):
        build(make_config(student=student), architecture=ARCHITECTURE, params_m=5.5)


def test_long_source_is_cut_and_an_oversized_record_is_refused():
    config = make_config()
    config['run']['source'] = 'x' * 20000
    assert len(make_record({'top1_mean': 1.0}, config=config).config.source) < 2000
    with pytest.raises(RecordError, match="largest part is 'environment'"):
        build(make_config(), make_card('comad_tiny'), {**ENVIRONMENT, 'cpu': 'y' * MAX_BYTES})


@pytest.mark.parametrize(
    ('changes', 'reason'),
    [
        ({'metrics': {'top1_best': 99.0}}, "unknown metric 'top1_best'"),
        ({'metrics__top1_mean': 100.5}, "metric 'top1_mean' is outside 0 to 100: 100.5"),
        ({'task': 'guess'}, "no task is called 'guess'"),
        ({'protocol__fields': {'resolution': 224}}, "protocol field 'batch' is absent"),
    ],
)
def test_a_record_that_its_task_does_not_know_is_refused(changes, reason):
    with pytest.raises(RecordError, match=reason):
        check_task(changed(make_record({'top1_mean': 50.0}), **changes))


def test_every_metric_of_a_detection_has_a_figure_or_a_reason():
    record = changed(make_record({'bbox_mAP': 0.5}, kind='mask_rcnn'), missing={})
    with pytest.raises(RecordError, match="metric 'bbox_mAP_50' is neither reported nor missing"):
        check_task(record)
