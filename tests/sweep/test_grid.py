"""The grids name commands and files as the suite's tools know them."""

import subprocess
import sys
from pathlib import Path

import pytest
from mmengine.config import Config

from comad.commands.sweep import make_sweep
from comad.engine.run_config import parse_config
from comad.sweep.grid import (
    ABLATIONS,
    REFERENCE,
    TEACHERS,
    ablations,
    quickstart,
    study,
    teachers_of,
    transfer,
)
from comad.sweep.step import SweepError, config_sources
from tests.calls import call

ROOT = Path(__file__).resolve().parents[2]


def test_every_leaf_of_all_grids_exists():
    for step in (*quickstart(ROOT), *study(ROOT, 3), *ablations(ROOT, 3)):
        for word in (*step.command, *step.sources):
            if word.endswith('.py'):
                assert (ROOT / word).is_file(), f'{step.name}: {word}'


def test_quickstart_covers_every_task_and_ends_with_the_tables():
    steps = {step.name: step for step in quickstart(ROOT)}
    for kind in ('linear', 'knn', 'finetune', 'upernet', 'mask_rcnn'):
        for student in ('comad_tiny', 'scratch_tiny'):
            assert f'{kind}_{student}_p0_s0' in steps
    comad = steps['pretrain_comad_tiny_p0']
    assert set(comad.needs) == {'data', *(f'pretrain_{teacher}_p0' for teacher in TEACHERS)}
    assert steps['linear_scratch_tiny_p0_s0'].needs == ('data',)
    assert steps['linear_comad_tiny_p0_s0'].command == (
        *('python', 'tools/train.py', 'cls_configs/linear_comad_tiny.py'),
        *('--sample', '--seed', '0'),
    )
    assert list(steps)[-1] == 'leaderboard' and len(steps['leaderboard'].needs) == 11
    assert 'knn_mocov3_base_p0_s0' in steps, 'what there is to reach'
    early = {name for name, step in steps.items() if step.early}
    first = {f'knn_{student}_p0_s0' for student in ('comad_tiny', 'scratch_tiny')}
    assert early == first, 'the shortest gives the first rows'


@pytest.mark.parametrize('kind', ['linear', 'knn', 'finetune', 'upernet', 'mask_rcnn'])
def test_every_student_is_transferred_by_the_one_leaf_of_its_task(kind):
    steps = {step.name: step for step in study(ROOT, 1)}
    for student in ('mae_tiny', 'mocov3_base', 'scratch_tiny'):
        _, _, leaf, *options = steps[f'{kind}_{student}_p0_s0'].command
        assert Path(leaf).stem == f'{kind}_comad_tiny'
        assert options == ['--sample', '--seed', '0', '--student', f'{student}:0']


# As the papers have it; students without a teacher learn alone.
TAUGHT_BY = {
    'amd_tiny': ['mae_base'],
    'comad_only_mocov3_tiny': ['mocov3_base'],
    'd_mae_lite_tiny': ['mae_base'],
    'dmt_mean_tiny': list(TEACHERS),
    'hybrid_distill_tiny': ['mae_base', 'mocov3_base'],
    'ibot_base': ['mocov3_base'],  # starts from it
    'mae_tiny': [],
}


@pytest.mark.parametrize('student', TAUGHT_BY)
def test_teachers_are_read_from_the_config(student):
    found = teachers_of(student, 'sample')
    assert sorted(found) == sorted(TAUGHT_BY[student])


def test_a_teacher_without_stand_in_is_named(monkeypatch):
    made = Config(dict(model=dict(teachers=[dict(checkpoint='teachers/dino.pth')])))
    monkeypatch.setattr('comad.sweep.grid.resolved', lambda leaf, track: made)
    with pytest.raises(SweepError, match='no stand-in for teachers/dino.pth'):
        teachers_of('new_tiny', 'sample')
    assert teachers_of('new_tiny', 'overnight') == ()


def test_study_shares_the_steps_of_a_quickstart():
    first = {step.name: step for step in quickstart(ROOT)}
    shared = [step for step in study(ROOT, 3) if step.name in first]
    assert len(shared) >= 15
    assert all(step == first[step.name] for step in shared)


def test_ablations_share_the_steps_of_the_study_and_pair_their_seeds():
    steps = {step.name: step for step in ablations(ROOT, 2)}
    assert len(ABLATIONS) == 10 and len(steps) == 4 + 2 * 2 * 11
    known = {step.name: step for step in study(ROOT, 3)}
    shared = [step for step in steps.values() if step.name in known]
    assert len(shared) >= 4 + 2 * 2 * 5 and all(step == known[step.name] for step in shared)
    assert steps['linear_comad_pca_tiny_p1_s1'].needs == ('data', 'pretrain_comad_pca_tiny_p1')
    assert f'pretrain_{REFERENCE}_p1' in steps


@pytest.mark.parametrize('cell', ABLATIONS)
def test_a_cell_differs_from_the_default_in_one_thing(cell):
    def flat(node, path=()):
        if isinstance(node, dict):
            return {k: v for key in node for k, v in flat(node[key], (*path, key)).items()}
        return {path: node}

    configs = [
        parse_config(ROOT / f'pretrain_configs/{name}.py')._cfg_dict.to_dict()
        for name in (REFERENCE, cell)
    ]
    default, mine = (flat(config) for config in configs)
    changed = {key for key in {*default, *mine} if default.get(key) != mine.get(key)}
    assert len(changed) == 1 and next(iter(changed))[0] == 'model'


@pytest.mark.parametrize('kind', ['linear', 'upernet', 'mask_rcnn'])
def test_outputs_follow_the_naming_of_runs_and_records(kind):
    outputs = transfer(ROOT, kind, 'comad_tiny', 1, 1).outputs
    assert outputs[0] == f'results/sample/records/{kind}_comad_tiny_p1_s1.json'
    figure = f'work_dirs/sample/{kind}/comad_tiny/pretrain1_seed1/predictions.png'
    assert (figure in outputs) == (kind != 'linear')


def test_sources_follow_bases_without_executing_them(tmp_path):
    (tmp_path / 'base').mkdir()
    (tmp_path / 'leaf.py').write_text("_base_ = ['./base/a.py', 'mmseg::b.py']\nraise SystemExit\n")
    (tmp_path / 'base/a.py').write_text("_base_ = '../root.py'\n")
    (tmp_path / 'root.py').write_text('x = 1\n')
    assert config_sources(tmp_path, 'leaf.py') == ('leaf.py', 'base/a.py', 'root.py')


def test_dry_run_lists_steps_and_time():
    command = [sys.executable, 'tools/sweep.py', 'quickstart', '--dry-run']
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    lines = done.stdout.splitlines()
    total = len(quickstart(ROOT))
    assert done.returncode == 0 and len(lines) == total + 1
    assert 'python tools/data.py sample' in lines[0]
    assert lines[-1].split(' steps')[0].endswith(f'of {total}')


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (('study', '--track', 'nix'), "no track 'nix'; one of full, cifar100"),
        (('study', '--track', 'cifar100', '--tasks', 'upernet'), 'has no upernet (base_configs'),
        (('ablations',), '--sample'),
        (('study', '--sample', '--seeds', '0'), '--seeds 0: expected 1 or more'),
        (('study', '--sample', '--methods', 'simmim'), '--methods simmim: expected some of comad'),
        (('study', '--sample', '--tasks', 'lowshot'), 'expected some of linear, finetune'),
        (('study', '--sample', '--equal', '-1'), '--equal -1: expected a whole factor'),
        (('quickstart', '--redo', 'nothing'), 'quickstart has no step nothing'),
        (('nightly',), 'invalid choice'),
    ],
)
def test_wrong_arguments_are_answered_at_once(monkeypatch, arguments, message):
    monkeypatch.setattr('signal.signal', lambda *_: None)  # the tests' own
    # Arguments that have become right fail here, instead of starting the hours that they ask for.
    monkeypatch.setattr('comad.commands.sweep.run', lambda sweep: pytest.fail('it was started'))
    done = call('sweep', *arguments)
    assert done.returncode == 2 and message in done.stderr


def test_ablations_go_on_after_a_failed_cell_and_a_quickstart_does_not():
    assert make_sweep('ablations', 1, 1).keep_going
    assert not make_sweep('quickstart', 1, 1).keep_going
