"""The study's grid: all methods, chosen ones, and methods of equal cost."""

from collections import Counter
from pathlib import Path

import pytest

from comad.commands.sweep import main
from comad.runs.place import get_track
from comad.runs.record import write_record
from comad.sweep.finish import figure_of
from comad.sweep.grid import RECORDS, RIVALS, SCRATCH, STUDY_STUDENTS, TEACHERS, study
from comad.sweep.runner import Sweep
from comad.sweep.step import SweepError
from tests.leaderboard.examples import make_record

ROOT = Path(__file__).resolve().parents[2]


def steps_of(seeds, **options):
    return {step.name: step for step in study(ROOT, seeds, **options)}


def test_study_pairs_seeds_and_trains_teachers_once():
    steps = steps_of(3)
    counts = Counter(name.split('_p')[0] for name in steps if name.startswith('pretrain_'))
    assert {counts[f'pretrain_{teacher}'] for teacher in TEACHERS} == {1}
    pretrained = set(STUDY_STUDENTS) - {SCRATCH, *TEACHERS}
    assert {counts[f'pretrain_{student}'] for student in pretrained} == {3}
    assert len(pretrained) == 11
    paired = steps['linear_comad_tiny_p2_s2']
    assert paired.command[-2:] == ('--student', 'comad_tiny:2')
    assert paired.needs == ('data', 'pretrain_comad_tiny_p2')
    assert 'linear_scratch_tiny_p0_s2' in steps
    assert steps['linear_mocov3_base_p0_s1'].command[-2:] == ('--student', 'mocov3_base:0')
    alone = steps['pretrain_comad_only_ibot_tiny_p1']
    assert alone.needs == ('data', 'pretrain_ibot_base_p0')


def test_rivals_are_transferred_to_every_task():
    steps = steps_of(1)
    for kind in ('linear', 'finetune', 'knn', 'upernet', 'mask_rcnn'):
        for student in (*RIVALS, 'comad_uniform_tiny'):
            assert f'{kind}_{student}_p0_s0' in steps
    assert 'finetune_comad_only_mae_tiny_p0_s0' in steps
    assert 'upernet_comad_only_mae_tiny_p0_s0' not in steps
    asked = steps_of(1, methods=['comad_only_mae'], kinds=['upernet'])
    assert 'upernet_comad_only_mae_tiny_p0_s0' in asked


def test_a_finished_transfer_tells_its_first_figure(tmp_path):
    steps = steps_of(1)
    for kind, metrics, shown in (
        ('linear', {'top1_cls': 44.04, 'top1_mean': 48.26}, 'top1 48.3'),
        ('mask_rcnn', {'bbox_mAP': 0.123, 'segm_mAP': 0.1}, 'bbox_mAP 12.3'),
    ):
        write_record(tmp_path / RECORDS, make_record(metrics, kind, 'comad_tiny'))
        assert figure_of(tmp_path, steps[f'{kind}_comad_tiny_p0_s0']) == shown
    assert figure_of(tmp_path, steps['pretrain_comad_tiny_p0']) == ''
    assert figure_of(tmp_path, steps['knn_comad_tiny_p0_s0']) == '', 'no record ends no sweep'


def test_chosen_methods_and_tasks_only():
    steps = steps_of(2, methods=['dmt', 'scratch'], kinds=['linear'])
    made = [name for name in steps if not name.startswith(('data', 'pretrain_'))]
    assert made == [
        f'linear_{s}_tiny_p{p}_s{k}' for k in (0, 1) for s, p in (('dmt', k), ('scratch', 0))
    ]
    pretrained = [n for n in steps if n.startswith('pretrain_') and '_base_' not in n]
    assert pretrained == ['pretrain_dmt_tiny_p0', 'pretrain_dmt_tiny_p1']
    assert all(step == steps_of(2)[name] for name, step in steps.items())


def test_equal_cost_needs_the_cards_of_both_and_names_students_apart():
    steps = steps_of(2, methods=['dmt'], equal=4)
    equal = steps['pretrain_dmt_equal4_tiny_p1']
    assert equal.command == (
        *('python', 'tools/train.py', 'pretrain_configs/dmt_tiny.py', '--sample', '--seed', '1'),
        *('--compute-of', 'comad_tiny:4'),
    )
    own = ('pretrain_comad_tiny_p0', 'pretrain_dmt_tiny_p0')
    assert equal.needs == ('data', *(f'pretrain_{t}_p0' for t in TEACHERS), *own)
    folder = 'work_dirs/sample/pretrain/dmt_equal4_tiny/seed1'
    assert equal.outputs[0] == f'{folder}/student.safetensors'
    assert 'pretrain_dmt_tiny_p1' not in steps
    probe = steps['linear_dmt_equal4_tiny_p1_s1']
    assert probe.command[-2:] == ('--student', 'dmt_equal4_tiny:1')
    assert probe.command[2] == 'cls_configs/linear_comad_tiny.py'


def test_all_methods_at_equal_cost_leave_out_what_costs_nothing():
    steps = steps_of(1, kinds=['linear'], equal=2)
    made = {name for name in steps if name.startswith('linear_')}
    students = ('comad_tiny', *RIVALS)
    assert made == {f'linear_{s.removesuffix("_tiny")}_equal2_tiny_p0_s0' for s in students}
    Sweep('study', study(ROOT, 2, equal=2), ROOT)  # every need precedes its step
    for method in ('mae', 'comad_only_mae'):  # without what the reference is taught by
        Sweep('study', study(ROOT, 2, [method], equal=2), ROOT)
    assert not [name for name in steps_of(1, methods=['scratch'], equal=2) if 'comad' in name]
    overnight = get_track('overnight')  # its study leaves one of the methods out
    made = {name for name in steps_of(1, equal=2, track='overnight') if name.startswith('knn_')}
    students = [name for name in overnight.students if name != SCRATCH]
    assert made == {f'knn_{s.removesuffix("_tiny")}_equal2_tiny_p0_s0' for s in students}


@pytest.mark.parametrize(
    ('options', 'named'),
    [
        (dict(methods=['dmt', 'dino']), '--methods dino'),
        (dict(kinds=['lowshot']), '--tasks lowshot'),
    ],
)
def test_unknown_names_are_named(options, named):
    with pytest.raises(SweepError, match=named):
        study(ROOT, 1, **options)


def test_the_status_of_a_part_counts_its_steps_alone(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    part = ['--methods', 'mae', '--tasks', 'linear', '--seeds', '2']
    assert main(['status', '--sample', *part]) == 0
    (line,) = capsys.readouterr().out.splitlines()
    assert line.startswith('study: 0 done, 0 running, 5 waiting, 0 failed; about ')
