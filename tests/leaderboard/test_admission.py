"""Admission: every fact that a ranked row needs, and every way to count one run twice."""

import json

import pytest

from comad.leaderboard.admission import duplicates, group_by_reason, read_admitted
from comad.leaderboard.tables import make_leaderboards
from comad.runs.questions import open_questions
from comad.runs.record import write_record
from comad.tasks.recording import build_record
from tests.leaderboard.examples import (
    ARCHITECTURE,
    ENVIRONMENT,
    changed,
    digest,
    make_card,
    make_config,
    make_data,
    make_record,
    rows_of,
)


def three(**changes):
    return [
        changed(make_record({'top1_mean': 50.0 + p}, 'linear', 'comad_tiny', p, p), **changes)
        for p in range(3)
    ]


def test_a_complete_record_leaves_no_question():
    assert open_questions(make_record({'top1_mean': 50.0})) == []
    (row,) = rows_of('classification', three())
    assert row['rank'] == '1' and row['details']['not_ranked'] == []


@pytest.mark.parametrize(
    ('changes', 'reason'),
    [
        ({'environment__git_dirty': True}, 'environment.git_dirty is true: uncommitted changes'),
        ({'environment__git_dirty': None}, 'environment.git_dirty is null, not known'),
        ({'environment__git_commit': None}, 'environment.git_commit is null, no commit'),
        ({'environment__git_commit': 'main'}, "environment.git_commit is 'main', no commit"),
        ({'dataset__manifest': None}, 'dataset.manifest is null: python tools/data.py check'),
        ({'train_dataset__manifest': None}, 'train_dataset.manifest is null'),
        ({'train_dataset': None}, 'train_dataset is null: the checkpoint does not tell'),
        ({'student__data__manifest': None}, 'student.data.manifest is null'),
        (
            {'dataset__manifest': 'd' * 64 + ' (names and sizes only)'},
            'dataset.manifest is of names and sizes only',
        ),
        ({'dataset__problems': 2010}, 'dataset.problems is 2010: check.txt'),
        ({'train_dataset__problems': 1}, 'train_dataset.problems is 1'),
        ({'student__data__problems': 1}, 'student.data.problems is 1'),
        ({'environment__versions': {'timm': '1', 'mmengine': '1'}}, 'versions.torch is absent'),
        ({'environment__device': ''}, 'environment.device is blank'),
        ({'protocol__fields__precision': None}, 'protocol field precision is unknown'),
        ({'config__digest': 'none'}, "config.digest is 'none', no sha256"),
        ({'config__resolved_sha256': None}, 'config.resolved_sha256 is null, no sha256'),
        ({'checkpoint__sha256': None}, 'checkpoint.sha256 is null, no sha256'),
        ({'cost__device_hours': 0.0}, 'cost.device_hours is 0.0'),
        ({'student__architecture': None}, 'student.architecture.embed_dim is null, no size'),
        (
            {'student__architecture': {**ARCHITECTURE, 'num_heads': 0}},
            'student.architecture.num_heads is 0, no size',
        ),
        ({'student__params_m': None}, 'student.params_m is null'),
        ({'student__method_version': None}, 'student.method_version is null'),
        ({'student__data': None}, 'student.data is null'),
        ({'student__epochs': None}, 'student.epochs is null'),
        ({'student__git_commit': None}, 'student.git_commit is null'),
        ({'student__config_digest': None}, 'student.config_digest is null'),
        ({'student__sha256': None}, 'student.sha256 is null'),
        ({'student__teachers__0__digest': None}, 'student.teachers.0.digest is null'),
        ({'student__teachers__0__file': ''}, "student.teachers.0.file is ''"),
    ],
)
def test_a_fact_that_is_missing_is_named_and_its_row_shown_but_not_ranked(
    tmp_path, changes, reason
):
    records = three(**changes)
    (question,) = [q for q in open_questions(records[0]) if reason in q]
    (row,) = rows_of('classification', records)
    assert (row['value'], row['n'], row['rank']) == ('51.00', '3', '')
    assert question in row['details']['not_ranked']
    for record in records:
        write_record(tmp_path, record)
    boards = make_leaderboards(records=tmp_path)
    assert boards.refused == []
    (note,) = [n for n in boards.notes if question in n]
    assert all(record.file in note for record in records) and note.endswith('not ranked')


def test_one_open_seed_keeps_the_whole_row_from_being_ranked():
    records = three()
    records[1] = changed(records[1], environment__git_dirty=True)
    (row,) = rows_of('classification', records)
    assert row['rank'] == ''


def test_a_random_network_needs_no_pretraining_and_no_teacher():
    record = build_record(
        make_config(student='scratch_tiny'), {'top1_mean': 9.0}, None, ENVIRONMENT,
        dataset=make_data(), train_dataset=make_data(split='train'),
        wall_seconds=9, images_seen=9, architecture=ARCHITECTURE, params_m=5.5,
        checkpoint={'file': 'a.pth', 'sha256': 'a' * 64}, resolved_sha256='b' * 64,
    )  # fmt: skip
    assert open_questions(record) == []
    # A method of its own targets has no teachers either.
    assert open_questions(three(student__teachers=[])[0]) == []


def test_a_test_without_training_needs_no_checkpoint():
    record = changed(make_record({'top1_mean': 9.0}), images_seen=0, checkpoint__sha256=None)
    assert open_questions(record) == []


@pytest.mark.parametrize(
    'other',
    [
        {'dataset__manifest': 'f' * 64},
        {'train_dataset__manifest': 'f' * 64},
        {'train_dataset__subset': 'share 0.01, seed 0'},
        {'train_dataset__images': 1_281_166},
    ],
)
def test_other_data_are_another_group(other):
    rows = rows_of('classification', [*three(), *three(**other)])
    assert [(row['n'], row['rank']) for row in rows] == [('3', '1'), ('3', '1')]
    assert rows[0]['section'] != rows[1]['section']
    split = [*three()[:2], *three(**other)[2:]]
    assert [r['rank'] for r in rows_of('classification', split)] == ['', '']


def test_a_student_of_other_pretraining_data_is_another_row():
    rows = rows_of('classification', [*three(), *three(student__data__manifest='f' * 64)])
    assert [row['n'] for row in rows] == ['3', '3'] and rows[0]['section'] == rows[1]['section']


@pytest.mark.parametrize(
    ('track', 'changes', 'reason'),
    [
        (
            'full',
            {'dataset__name': 'sample', 'dataset__images': 40, 'dataset__classes': 10},
            "evaluated on 'sample' (10 classes, 40 images), not on 'imagenet-1k'",
        ),
        (
            'full',
            {'dataset__name': 'imagenet', 'dataset__images': 60, 'dataset__classes': 2},
            "evaluated on 'imagenet' (2 classes, 60 images), not on 'imagenet-1k'",
        ),
        ('full', {'train_dataset__name': 'flowers'}, "trained on 'flowers'"),
        ('full', {'dataset__split': 'train'}, "evaluated on 'train', not on all of 'val'"),
        ('full', {'dataset__subset': 'first 9'}, "evaluated on 'val' (first 9), not on all"),
        ('full', {'train_dataset__split': 'val'}, "trained on 'val', which is evaluated"),
        ('sample', {'sample': True}, "evaluated on 'imagenet-1k'"),
        ('sample', {'sample': False}, 'a record of full scale in a folder of the embedded sample'),
        ('cifar100', {}, 'a record of full scale in a folder of the track cifar100'),
        ('full', {'track': 'cifar100'}, 'a record of the track cifar100 in a folder of full scale'),
        (
            'cifar100',
            {'track': 'cifar100'},
            "on 'imagenet-1k' (1,000 classes, 50,000 images), not on 'cifar-100'",
        ),
    ],
)
def test_what_was_read_decides_the_table(tmp_path, track, changes, reason):
    for record in three(**changes):
        write_record(tmp_path, record)
    boards = make_leaderboards(track, records=tmp_path)
    assert len(boards.refused) == 3 and all(reason in line for line in boards.refused)
    assert not any((table['n'] != '').any() for table in boards.tables.values())


def test_a_record_of_no_known_task_or_metric_is_refused_by_name(tmp_path):
    good, metric, task = three()
    metric = changed(metric, metrics={'top1_best': 99.0})
    for record in (good, metric, changed(task, task='guess')):
        write_record(tmp_path, record)
    accepted, refused = read_admitted(tmp_path)
    assert accepted == [good]
    assert any(metric.file in line and "unknown metric 'top1_best'" in line for line in refused)
    assert any('guess_comad' in line and 'no task is called' in line for line in refused)


def test_two_methods_cannot_share_a_student_file(tmp_path):
    for student in ('comad_tiny', 'mae_tiny'):
        card = make_card(student, sha256='the same')
        write_record(tmp_path, make_record({'top1_mean': 1.0}, student=student, card=card))
    accepted, refused = read_admitted(tmp_path)
    assert accepted == []
    assert len(refused) == 2 and all(
        'comad_tiny of pretraining seed 0 and mae_tiny' in line for line in refused
    )


@pytest.mark.parametrize(('config', 'admitted'), [('as long', 2), ('longer', 0)])
def test_equal_compute_may_be_the_method_as_it_is(tmp_path, config, admitted):
    """As many epochs as the method's own are the same pretraining, to the same bytes."""
    for student, own in (('comad_tiny', 'as long'), ('comad_equal2_tiny', config)):
        card = make_card(student, sha256='the same', config_digest=own)
        made = make_record({'top1_mean': 1.0}, student=student, card=card)
        write_record(tmp_path, changed(made, checkpoint__sha256='of both'))
    accepted, refused = read_admitted(tmp_path)
    assert len(accepted) == admitted and len(refused) == 2 - admitted


@pytest.mark.parametrize(
    ('copied', 'reason'),
    [
        ('student__sha256', 'share one student file'),
        ('checkpoint__sha256', 'share one checkpoint'),
    ],
)
def test_a_run_under_other_seeds_is_refused_with_its_original(tmp_path, copied, reason):
    original, other, third = three()
    section, key = copied.split('__')
    twice = changed(other, **{copied: getattr(getattr(original, section), key)})
    for record in (original, twice, third):
        write_record(tmp_path, record)
    accepted, refused = read_admitted(tmp_path)
    assert [record.file for record in accepted] == [third.file]
    assert [line.split(': ')[0].rsplit('/', 1)[1] for line in refused] == [
        original.file,
        twice.file,
    ]
    assert all(reason in line for line in refused)


def test_one_config_and_seed_is_one_run():
    first, other = make_record({'top1_mean': 1.0}), make_record({'top1_mean': 1.0}, seed=1)
    assert duplicates([first, other]) == {}
    renamed = make_record({'top1_mean': 1.0}, student='mae_tiny')
    renamed = changed(renamed, config__digest=first.config.digest)
    reasons = duplicates([first, other, renamed])
    assert set(reasons) == {first.file, renamed.file}
    assert 'share one config and seed' in reasons[first.file]


def test_many_copies_are_counted_not_listed_for_each_other():
    first = make_record({'top1_mean': 1.0})
    copies = [make_record({'top1_mean': 1.0}, student='mae_tiny', seed=n) for n in range(50)]
    copies = [
        changed(record, checkpoint__sha256=first.checkpoint.sha256) for record in (first, *copies)
    ]
    reasons = duplicates(copies)
    assert len(reasons) == 51 and all('and 48 more share' in line for line in reasons.values())
    assert max(map(len, reasons.values())) < 250


def test_tests_of_one_checkpoint_by_two_tasks_are_no_copies():
    first, other = make_record({'top1': 1.0}, 'finetune'), make_record({'top1_mean': 1.0})
    shared = {'checkpoint__sha256': first.checkpoint.sha256}
    assert duplicates([first, changed(other, **shared)]) == {}


def test_repeats_of_a_test_without_training_are_no_seeds():
    # k-NN of one student: the transfer's seed changes nothing.
    records = []
    for seed in range(3):
        record = make_record({'top1_mean': 40.0}, seed=seed)
        fields = {'resolution': 224, 'neighbours': 20, 'temperature': 0.07, 'bank_data': 'a'}
        fields |= {'test_data': 'a', 'backbone': 'b', 'model': 'm'}
        records.append(
            changed(
                record,
                task='knn',
                protocol={'name': 'dino_knn', 'version': 1, 'fields': fields},
                metrics={'top1_cls': 39.0, 'top1_mean': 40.0},
                checkpoint={'file': None, 'sha256': None},
                images_seen=0,
            )
        )
    rows = rows_of('classification', records)
    assert [(r['n'], r['rank']) for r in rows] == [('1', ''), ('1', '')]


def test_different_settings_of_one_protocol_are_named(tmp_path):
    records = three()
    for field, value in (('length', '100 epochs'), ('batch_size', 64)):
        records[0] = changed(records[0], **{f'protocol__fields__{field}': value})
    for record in records:
        write_record(tmp_path, record)
    (note,) = make_leaderboards(records=tmp_path).notes
    assert 'protocol mae_linear version 1 of linear' in note
    assert 'different batch_size, length;' in note


def test_rows_on_different_data_are_pointed_out(tmp_path):
    other = make_record({'top1_mean': 9.0}, student='mae_tiny')
    for record in (*three(), changed(other, dataset__manifest='f' * 64)):
        write_record(tmp_path, record)
    (note,) = make_leaderboards(records=tmp_path).notes
    assert 'linear: records cite 2 data manifests, dddddddddddd, ' in note


def test_details_are_plain_and_follow_from_the_records_in_any_order():
    records = three()
    (row,) = rows_of('classification', records)
    (again,) = rows_of('classification', records[::-1])
    details = row['details']
    assert json.dumps(details) == json.dumps(again['details'])
    assert (details['width'], details['depth'], details['patch']) == (192, 12, 16)
    assert details['gflops'] == 2.5 and details['images_per_second'] == 80.0
    assert details['device_hours'] == pytest.approx(12.5 / 3600, abs=1e-6)
    assert details['pretrain_hours'] == 2.0 and details['seeds'] == [[0, 0], [1, 1], [2, 2]]
    assert details['students_sha256'] == [
        digest('student', 'comad_tiny', seed) for seed in range(3)
    ]
    assert details['checkpoints'][2]['sha256'] == digest('checkpoint', 'linear', 'comad_tiny', 2, 2)
    assert details['protocol']['length'] == '90 epochs' and details['task'] == 'linear'
    assert details['teachers'][0]['digest'] == 'd1' and details['devices'] == ['cpu']
    assert details['versions']['torch'] == ['2.11.0'] and details['commits'] == ['c' * 40]


def test_a_reason_of_many_records_stays_one_short_line():
    few = {f'{name}.json': ['why'] for name in 'abcd'}
    assert group_by_reason(few) == ['a.json, b.json, c.json, d.json: why; not ranked']
    many = {**few, 'e.json': ['why', 'also']}
    assert group_by_reason(many) == [
        'a.json, b.json, c.json and 2 more: why; not ranked',
        'e.json: also; not ranked',
    ]
