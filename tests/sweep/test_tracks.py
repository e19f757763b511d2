"""Studies on tracks without data of their own: cells, what they lack, how they go on, the plan."""

import json

import pytest

from comad.engine.options import RunOptions
from comad.engine.run_config import load_run_config
from comad.recipes.price import FILE, Price
from comad.runs.place import FILES, get_track
from comad.runs.record import write_record
from comad.sweep.adopt import made_as_now
from comad.sweep.grid import RIVALS, resolved, study, study_kinds
from comad.sweep.plan import make_plan, plan_text, priced
from comad.sweep.runner import Sweep
from tests.calls import call
from tests.leaderboard.examples import changed, make_record
from tests.sweep.test_runner import shell


def test_the_grid_is_students_x_tasks_x_seeds_and_needs_come_from_the_configs():
    steps = {step.name: step for step in study(FILES, 3, track='overnight')}
    kinds = study_kinds(get_track('overnight'))
    assert set(kinds) == {'linear', 'knn', 'upernet', 'mask_rcnn'}
    students = {step.student for step in steps.values()}
    assert len(students) == 7 and {'comad_tiny', 'scratch_tiny', 'amd_tiny'} < students
    assert len(steps) == 6 * 3 + 7 * len(kinds) * 3
    Sweep('study', list(steps.values()), FILES)  # every need precedes its step
    comad, probe = steps['pretrain_comad_tiny_p1'], steps['linear_comad_tiny_p1_s1']
    assert comad.needs == () and probe.needs == ('pretrain_comad_tiny_p1',)
    assert [path for path, _ in comad.files] == [
        'data/imagenet',
        'teachers/mae_pretrain_vit_base.pth',
        'teachers/vit-b-300ep.pth.tar',
        'teachers/vitb_16/checkpoint_teacher.pth',
    ]
    assert [path for path, _ in probe.files] == ['data/imagenet']
    assert probe.outputs == ('results/overnight/records/linear_comad_tiny_p1_s1.json',)
    assert comad.outputs[0] == 'work_dirs/overnight/pretrain/comad_tiny/seed1/student.safetensors'
    assert 'base_configs/tracks/overnight/pretrain.py' in comad.sources
    assert comad.command[3:] == ('--track', 'overnight', '--seed', '1')


def test_full_scale_is_the_same_cells_without_an_overlay():
    steps = {step.name: step for step in study(FILES, 1, ['comad', 'ibot'], ['knn'], track='full')}
    assert list(steps) == [
        *('pretrain_comad_tiny_p0', 'pretrain_ibot_tiny_p0'),
        *('knn_comad_tiny_p0_s0', 'knn_ibot_tiny_p0_s0'),
    ]
    everything = study(FILES, 3, track='full')
    students = {step.student for step in everything}
    assert len(students) == 12 and {'comad_tiny', 'scratch_tiny', *RIVALS} < students
    kinds = study_kinds(get_track('full'))
    assert {'linear', 'knn', 'finetune', 'lowshot_1pct', 'upernet', 'mask_rcnn'} < set(kinds)
    assert len(everything) == 11 * 3 + 12 * len(kinds) * 3
    comad = steps['pretrain_comad_tiny_p0']
    assert comad.processes == 8 and not any('tracks' in source for source in comad.sources)
    sweep = Sweep('study', list(steps.values()), FILES, resume=True, gpus=4)
    assert sweep.typed(comad) == [
        *('tools/dist_train.sh', 'pretrain_configs/comad_tiny.py', '4'),
        *('--seed', '0', '--accumulate', '2', '--resume'),
    ]


@pytest.fixture
def empty_home(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr('signal.signal', lambda *_: None)  # the tests' own
    # What counting gives would take a minute.
    steps = study(FILES, 1, ['dmt'], track='cifar100')
    digests = {resolved(step.command[2], 'cifar100').run.digest for step in steps}
    FILE.parent.mkdir()
    price = dict(tflop=4_000_000.0, images=1_000, workers=12, megabytes=170.0)
    FILE.write_text(json.dumps(dict.fromkeys(digests, price)))
    return tmp_path


GRID = ('study', '--track', 'cifar100', '--methods', 'dmt', '--seeds', '1')


def test_what_is_missing_is_said_before_anything_starts(empty_home):
    done = call('sweep', *GRID)
    lines = done.stderr.splitlines()
    assert done.returncode == 2 and len(lines) == 4
    assert lines[0].startswith('sweep: missing data: data/cifar-100-binary (train.bin, ')
    assert [line.split(' file ')[1].partition(';')[0] for line in lines[1:]] == [
        'teachers/mae_pretrain_vit_base.pth',
        'teachers/vit-b-300ep.pth.tar',
        'teachers/vitb_16/checkpoint_teacher.pth',
    ]
    assert not (empty_home / 'work_dirs/cifar100').exists()
    listed = call('sweep', *GRID, '--dry-run').stdout
    assert 'pretrain_configs/dmt_tiny.py --track cifar100 --seed 0 --resume' in listed
    assert '4 of 4 steps to do' in listed and listed.count('missing teacher') == 3


def test_the_plan_tells_what_is_there_hours_disk_and_the_next_command(empty_home):
    arguments = ('plan', *GRID[1:], '--tflops', '400')
    text = call('show', *arguments).stdout
    # 4e6 TFLOP at 400 TFLOP/s are 2.78 hours.
    assert 'pretrain dmt_tiny  2.78' in text and 'next: python tools/data.py check cifar100' in text
    told = json.loads(call('show', *arguments, '--json').stdout)
    (row,) = told['rows']
    assert row['done'] == {kind: [0, 1] for kind in ('pretrain', 'linear', 'knn', 'finetune')}
    assert round(row['hours'], 2) == round(told['hours_in_all'], 2) == 11.11
    assert round(row['gigabytes'], 2) == 0.68 and 'data/cifar-100-binary' in row['missing']


def test_the_plan_of_the_sample_lacks_nothing(empty_home):
    track = get_track('sample')
    plan = make_plan(Sweep('study', study(FILES, 1), empty_home), track, 50.0)
    assert not plan.missing and plan.next == 'python tools/sweep.py study --sample'
    assert 'comad_only_mae_tiny' in plan_text(plan) and 'mae_base' in plan_text(plan)


def test_teachers_that_come_with_the_sample_cost_no_hours(empty_home):
    part = ('--sample', '--methods', 'comad', '--tasks', 'knn', '--seeds', '1')
    told = json.loads(call('show', 'plan', *part, '--json').stdout)
    assert [row['student'] for row in told['rows']] == ['comad_tiny']  # nobody's pretraining else
    assert told['hours_in_all'] < 0.1


@pytest.mark.parametrize(
    ('option', 'value', 'expected'),
    [
        ('--seeds', '0', '1 or more'),
        ('--gpus', '-1', '1 or more'),
        ('--tflops', '0', 'more than 0'),
        ('--tflops', 'nan', 'more than 0'),
        ('--decode-rate', '-5', 'more than 0'),
    ],
)
def test_a_plan_of_nothing_is_refused(empty_home, option, value, expected):
    done = call('show', 'plan', option, value)
    assert done.returncode == 2 and f'{option} {value}: expected {expected}' in done.stderr


def test_hours_are_the_longer_of_computing_and_decoding():
    assert Price(3600.0, 0, 12, 1.0).hours(2, 5.0) == 0.1
    assert Price(1.0, 300 * 12 * 3600, 12, 1.0).hours(1, 50.0, rate=300.0) == 1.0


def test_counted_operations_give_durations(empty_home):
    told = []
    steps = study(FILES, 1, ['dmt'], track='cifar100')
    found = priced(steps, get_track('cifar100'), 1, 400.0, report=told.append)
    assert {step.seconds for step in found} == {10_000.0} and told == []
    halved = priced(steps, get_track('cifar100'), 2, 400.0)
    assert {step.seconds for step in halved} == {5_000.0}


def test_a_training_that_was_stopped_after_saving_goes_on(tmp_path):
    stopped = 'echo x >> starts; [ $(wc -l < starts) -gt 2 ] || exit 75; echo done > a.out'
    lines = []
    sweep = Sweep(
        'grid', [shell('a', stopped)], tmp_path, 'state', resume=True, report=lines.append
    )
    assert sweep.run().done == ['a'] and (tmp_path / 'starts').read_text().count('x') == 3
    assert sum('goes on' in line for line in lines) == 2
    # On the sample a step that saved and stopped has failed: it begins anew.
    (tmp_path / 'starts').unlink()
    sweep = Sweep('grid', [shell('b', stopped)], tmp_path, 'state')
    assert sweep.run().failed == ['b']


def test_a_failed_cell_holds_back_what_needs_it_and_nothing_else(tmp_path):
    steps = [
        shell('a', 'exit 3'),
        shell('b', 'echo b > b.out', needs=('a',)),
        shell('c', 'echo c > c.out'),
    ]
    sweep = Sweep('grid', steps, tmp_path, 'state', keep_going=True, resume=True)
    outcome = sweep.run()
    assert (outcome.done, outcome.failed, outcome.not_run) == (['c'], ['a'], ['b'])
    assert [sweep.state_of(step) for step in steps] == ['failed', 'waiting', 'done']
    # A second start runs only what is missing.
    again = Sweep('grid', [shell('a', 'echo a > a.out'), *steps[1:]], tmp_path, 'state')
    assert again.run().done == ['a', 'b']
    assert {again.state_of(step) for step in again.steps} == {'done'}


def test_a_running_step_is_told_from_one_that_was_killed(tmp_path):
    seen = []
    step = shell('a', 'echo a > a.out')
    sweep = Sweep(
        'grid', [step], tmp_path, 'state', report=lambda _: seen.append(other.state_of(step))
    )
    other = Sweep('grid', [step], tmp_path, 'state')
    sweep.run()
    assert seen[0] == 'running' and other.state_of(step) == 'done'
    (tmp_path / 'state/stamps/a.json').unlink()
    (tmp_path / 'state/marks/a.json').write_text('{"state": "running"}')
    assert other.state_of(step) == 'waiting'


def test_redo_alone_writes_over_what_is_there():
    steps = study(FILES, 1, ['dmt'], ['knn'], track='cifar100')
    sweep = Sweep('study', steps, FILES, 'state', resume=True)
    assert sweep.typed(steps[0])[-1] == '--resume'
    sweep._anew.add(steps[0].name)
    assert sweep.typed(steps[0])[-1] == '--overwrite'


def test_what_was_made_by_hand_is_known_by_its_config(empty_home):
    """A student and a record of the present config are done; those of another one are not."""
    steps = {step.name: step for step in study(FILES, 1, ['dmt'], ['linear'], track='cifar100')}
    pretraining, transfer = steps['pretrain_dmt_tiny_p0'], steps['linear_dmt_tiny_p0_s0']
    student = empty_home / pretraining.outputs[0]
    student.parent.mkdir(parents=True)
    card = dict(config_digest=resolved(pretraining.command[2], 'cifar100').run.digest)
    for track, is_ours in (('full', False), ('cifar100', True)):
        student.with_name('student.json').write_text(json.dumps({**card, 'track': track}))
        assert made_as_now(empty_home, pretraining, 'cifar100') == is_ours
    leaf = str(FILES / transfer.command[2])
    options = RunOptions(leaf, track='cifar100', student='dmt_tiny:0')
    digest = load_run_config(options, check=False).run.digest
    record = make_record({'top1_mean': 1.0}, student='dmt_tiny')
    for changes, is_ours in (
        ({'config__digest': digest}, False),  # of full scale
        ({'track': 'cifar100'}, False),
        ({'config__digest': digest, 'track': 'cifar100'}, True),
    ):
        made = changed(record, **changes)
        write_record(empty_home / 'results/cifar100/records', made)
        sha256 = {'sha256': made.student.sha256}
        student.with_name('student.json').write_text(json.dumps(sha256))
        assert made_as_now(empty_home, transfer, 'cifar100') == is_ours, changes
    # The student has been trained again since.
    student.with_name('student.json').write_text(json.dumps({'sha256': 'e' * 64}))
    assert not made_as_now(empty_home, transfer, 'cifar100')
