"""A study as jobs of a cluster: what is submitted, in which order, and what has become of it.

Slurm's commands are stood in for here; tests/slurm has the real ones.
"""

import json
from dataclasses import replace

import pytest

from comad.commands.sweep import show_status
from comad.runs.place import FILES, get_track
from comad.sweep.grid import study
from comad.sweep.runner import Sweep
from comad.sweep.slurm import job_command, jobs_file, states_of_jobs, submit
from comad.sweep.step import SweepError

SBATCH = """#!/bin/bash
n=$(( $(cat {folder}/count 2>/dev/null || echo 0) + 1 )); echo $n > {folder}/count
printf '%s\\n' "$*" >> {folder}/submitted
echo "$n PENDING" >> {folder}/queue
echo "$n"
"""


@pytest.fixture
def cluster(tmp_path, monkeypatch):
    """A folder with the queue of a cluster whose jobs never start."""
    monkeypatch.chdir(tmp_path)
    programs = {
        'sbatch': SBATCH.format(folder=tmp_path),
        'squeue': f'#!/bin/bash\ncat {tmp_path}/queue\n',
        'sinfo': '#!/bin/bash\necho gpu:8\n',
    }
    (tmp_path / 'bin').mkdir()
    for name, text in programs.items():
        (tmp_path / 'bin' / name).write_text(text)
        (tmp_path / 'bin' / name).chmod(0o755)
    (tmp_path / 'queue').touch()
    monkeypatch.setenv('PATH', f'{tmp_path}/bin:/usr/bin:/bin')
    monkeypatch.setenv('SBATCH_ARGS', '--time=8:00:00')
    return tmp_path


def sweep_of(root, methods=('mae', 'dmt'), **options):
    steps = study(FILES, 1, methods, ['knn'], track='full')
    return Sweep('study', steps, root, 'state', FILES, resume=True, gpus=8, **options)


def test_a_job_per_cell_waits_for_what_it_needs(cluster):
    lines = []
    sweep = sweep_of(cluster, report=lines.append)
    jobs = submit(sweep, 'gpu')
    assert jobs == {
        'pretrain_mae_tiny_p0': '1',
        'pretrain_dmt_tiny_p0': '2',
        'knn_mae_tiny_p0_s0': '3',
        'knn_dmt_tiny_p0_s0': '4',
    }
    assert lines[-1] == 'knn_dmt_tiny_p0_s0: submitted as job 4, after 2'
    told = (cluster / 'submitted').read_text().splitlines()
    assert all('--time=8:00:00' in line and '--kill-on-invalid-dep=yes' in line for line in told)
    assert '--dependency' not in told[0] and '--dependency=afterok:2 ' in told[3]
    # As many processes as the recipe is for: 8, and 1 for k-NN.
    assert '--ntasks=8' in told[0] and '--ntasks=1' in told[3]
    assert 'pretrain_configs/mae_tiny.py --seed 0' in told[0]
    assert set(states_of_jobs(sweep).values()) == {'waiting'}


def test_a_second_start_submits_what_is_neither_done_nor_queued(cluster):
    sweep = sweep_of(cluster)
    submit(sweep, 'gpu')
    # MAE runs, DMT has left the queue without its student, and Slurm cancelled what needed it.
    (cluster / 'queue').write_text('1 RUNNING\n3 PENDING\n')
    assert states_of_jobs(sweep) == {
        'pretrain_mae_tiny_p0': 'running',
        'pretrain_dmt_tiny_p0': 'failed',
        'knn_mae_tiny_p0_s0': 'waiting',
        'knn_dmt_tiny_p0_s0': 'waiting',
    }
    again = submit(sweep_of(cluster), 'gpu')
    assert again == {'pretrain_dmt_tiny_p0': '5', 'knn_dmt_tiny_p0_s0': '6'}
    assert json.loads(jobs_file(sweep).read_text())['knn_mae_tiny_p0_s0'] == '3'
    assert '--dependency=afterok:5 ' in (cluster / 'submitted').read_text().splitlines()[-1]


def test_the_status_tells_states_and_the_hours_of_jobs_left(cluster, capsys):
    steps = study(FILES, 1, ['mae', 'dmt'], ['knn'], track='full')
    hours = {'pretrain': 7200.0, 'knn': 3600.0}
    steps = [replace(step, seconds=hours[step.part]) for step in steps]
    sweep = Sweep('study', steps, cluster, 'state', FILES, resume=True, gpus=8)
    submit(sweep, 'gpu')
    (cluster / 'queue').write_text('1 RUNNING\n3 PENDING\n')
    show_status(sweep)
    first, *lines = capsys.readouterr().out.splitlines()
    assert first == (
        'study: 0 done, 1 running, 2 waiting, 1 failed; '
        'about 6 h 00 min of jobs, 3 h 00 min if nothing has to wait, left'
    )
    assert lines == [
        '  running: pretrain_mae_tiny_p0',
        '  failed: pretrain_dmt_tiny_p0, see state/study/pretrain_dmt_tiny_p0.log',
    ]


def test_what_is_done_is_not_waited_for(cluster):
    done = sweep_of(cluster, adopts=lambda step: step.part == 'pretrain')
    for step in done.steps:
        if step.part == 'pretrain':
            for output in step.outputs:
                (cluster / output).parent.mkdir(parents=True, exist_ok=True)
                (cluster / output).write_text('made by hand')
    assert list(submit(done, 'gpu')) == ['knn_mae_tiny_p0_s0', 'knn_dmt_tiny_p0_s0']
    assert '--dependency' not in (cluster / 'submitted').read_text()


def test_fewer_gpus_accumulate_and_other_students_are_named(cluster):
    steps = {step.name: step for step in study(FILES, 2, ['mae'], ['knn'], track='full')}
    sweep = Sweep('study', list(steps.values()), cluster, 'state', FILES, resume=True, gpus=2)
    words = job_command(sweep, steps['pretrain_mae_tiny_p1'], 'gpu')
    assert words == [
        *('tools/slurm_train.sh', '--batch', 'gpu', 'pretrain_mae_tiny_p1'),
        *('pretrain_configs/mae_tiny.py', '--seed', '1', '--accumulate', '4'),
    ]
    words = job_command(sweep, steps['knn_mae_tiny_p1_s1'], 'gpu')
    assert words[4:] == [
        *('cls_configs/knn_comad_tiny.py', '--seed', '1', '--student'),
        'mae_tiny:1',
    ]


def test_what_slurm_refuses_is_said_with_the_step(cluster, monkeypatch):
    (cluster / 'bin/sbatch').write_text(
        '#!/bin/bash\necho "sbatch: error: no such partition" >&2\nexit 1\n'
    )
    with pytest.raises(
        SweepError, match='pretrain_mae_tiny_p0 could not be submitted: .*partition'
    ):
        submit(sweep_of(cluster), 'nix')
    with pytest.raises(SweepError, match='--redo is for runs here'):
        submit(sweep_of(cluster), 'gpu', ['pretrain_mae_tiny_p0'])
    monkeypatch.setenv('PATH', str(cluster / 'none'))
    with pytest.raises(SweepError, match='squeue not found'):
        submit(sweep_of(cluster), 'gpu')


def test_the_track_of_a_job_is_told(cluster):
    (step, *_) = study(FILES, 1, ['mae'], ['knn'], track='overnight')
    sweep = Sweep('study', [step], cluster, 'state', FILES, resume=True)
    assert job_command(sweep, step, 'gpu')[5:] == ['--track', 'overnight', '--seed', '0']
    assert get_track('overnight').option == ' --track overnight'
