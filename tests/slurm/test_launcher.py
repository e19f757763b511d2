"""tools/slurm_train.sh on a real Slurm, with a light training: jobs, signals, crashes, shapes."""

import json
import signal
import subprocess

import pytest

pytestmark = pytest.mark.slurm


@pytest.mark.parametrize('partition', ['cpu', 'gpu'])
def test_a_job_has_the_shape_of_its_partition(site, partition):
    site.set('finish')
    job = site.submit(partition)
    site.wait_until(job, 'COMPLETED')
    gpus = {'cpu': 0, 'gpu': 2}[partition]
    assert len(site.lines('calls')) == max(1, gpus)
    assert set(site.lines('calls')) == {'config.py --launcher slurm --resume auto'}
    assert (f'gres:gpu:{gpus}' in site.cluster.job(job).get('TresPerNode', '')) == bool(gpus)


def test_a_stop_before_the_end_of_the_time_is_queued_again_until_it_is_finished(site):
    site.settings['GPUS'] = '2'
    job = site.submit('both')
    site.wait_for('ready1')
    site.cluster.say('scancel', '--batch', '--signal=USR1', job)
    site.wait_for('saved', 2)
    site.wait_for_requeue(job)
    site.set('finish')
    site.release(job)
    site.wait_until(job, 'COMPLETED')
    assert site.lines('saved') == ['SIGUSR1'] * 2
    assert list((site.root / 'work_dirs').iterdir()) == []


def test_cancelled_means_cancelled(site):
    job = site.submit('cpu')
    site.wait_for('ready0')
    site.cluster.say('scancel', job)
    assert site.wait_until(job, 'CANCELLED')['Restarts'] == '0'
    assert len(site.lines('saved')) == 1


def test_preempted_means_queued_again(site):
    job = site.submit('cpu')
    site.wait_for('ready0')
    more = ('sbatch', '-p', 'urgent', '-w', 'n2', '--exclusive', '-J', 'job', '-o', '/dev/null')
    more += ('--wrap', 'sleep 60')
    assert site.cluster.say(*more)
    site.wait_for_requeue(job)
    assert len(site.lines('saved')) == 1


def test_a_node_that_goes_down_is_queued_again(site):
    site.settings |= {'GPUS': '2', 'GPUS_PER_NODE': '1', 'SBATCH_ARGS': '--gres=none'}
    job = site.submit('both')
    site.wait_for('ready0')
    site.wait_for('ready1')
    down = ('scontrol', 'update', 'NodeName=n2', 'Reason=test')
    site.cluster.say(*down, 'State=DOWN')
    try:
        site.wait_for_requeue(job)
    finally:
        site.cluster.say(*down, 'State=RESUME')
    site.set('finish')
    site.release(job)
    site.wait_until(job, 'COMPLETED')
    assert len(site.lines('ready0')) == len(site.lines('ready1')) == 2


@pytest.mark.parametrize('name', ['USR1', 'TERM'])
def test_a_signal_during_the_start_queues_again(site, name):
    site.set('starting')
    job = site.submit('cpu')
    site.wait_for('in_start')
    site.cluster.say('scancel', '--batch', f'--signal={name}', job)
    site.wait_for_requeue(job)
    assert 'stopped before the first step' in site.log(job)


def test_term_to_the_batch_shell_saves(site):
    job = site.submit('cpu')
    site.wait_for('ready0')
    site.cluster.say('scancel', '--batch', '--signal=TERM', job)
    site.wait_for_requeue(job)
    assert site.lines('saved') == ['SIGUSR1']


@pytest.mark.parametrize('number', [signal.SIGTERM, signal.SIGUSR1, signal.SIGINT])
def test_outside_of_a_batch_job_signals_save(site, number):
    process = site.start('cpu')
    site.wait_for('ready0')
    process.send_signal(number)
    process.communicate(timeout=60)
    assert process.returncode == 75 and site.lines('saved') == ['SIGUSR1']
    assert site.lines('calls') == ['config.py --launcher slurm']


def test_a_second_interrupt_ends_at_once(site):
    site.set('deaf')
    process = site.start('cpu')
    site.wait_for('ready0')
    process.send_signal(signal.SIGINT)
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(1)
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=60)
    assert process.returncode not in (0, 75) and site.lines('saved') == []


def test_crashes_are_queued_again_unless_nothing_is_gained(site):
    site.settings |= {'RETRIES': '1', 'GPUS': '2'}
    site.set('crash')
    job = site.submit('both')
    site.release(job)
    site.wait_until(job, 'FAILED')
    assert site.cluster.job(job)['Restarts'] == '1'
    assert 'broke 2 times without a new checkpoint' in site.log(job)

    site.set('last_checkpoint', 'first')  # which begins the count anew
    job = site.submit('both')
    site.wait_for_requeue(job)
    assert site.lines('crashes') == ['1 first']
    (site.run / 'crash').unlink()
    before = len(site.lines('ready0'))
    site.release(job)
    site.wait_for('ready0', before + 1)
    site.set('last_checkpoint', 'second')
    site.set('crash')
    site.wait_for_requeue(job, times=2)
    assert site.lines('crashes') == ['1 second']


@pytest.mark.parametrize('status', [2, 3, 4])
def test_the_first_process_says_what_became_of_it(site, status):
    """Though srun kills the other one, and reports that; 4 is the machine's."""
    site.settings['GPUS'] = '2'
    site.set('outcome', str(status))
    job = site.submit('both')
    if status == 4:
        site.wait_for_requeue(job)
    else:
        assert site.wait_until(job, 'FAILED')['ExitCode'] == f'{status}:0'


def test_without_the_users_environment(site):
    site.set('finish')
    site.settings['SBATCH_ARGS'] = '--export=NONE'
    site.wait_until(site.submit('gpu'), 'COMPLETED')
    assert len(site.lines('calls')) == 2


def test_an_array_is_of_seeds(site):
    site.set('finish')
    site.settings['SBATCH_ARGS'] = '--array=3-4'
    job = site.submit('cpu')
    site.cluster.wait_for(lambda: len(site.lines('calls')) == 2)
    seeds = [line.partition('--seed ')[2].split()[0] for line in site.lines('calls')]
    assert sorted(seeds) == ['3', '4']
    site.cluster.wait_for(lambda: not site.cluster.say('squeue', '-h', '-j', job))
    status, said = site.ask('cpu', '--batch', '--seed', '1')
    assert status == 1 and '--seed is the same for all tasks of an array' in said


def test_in_a_shell_on_a_node(site):
    site.set('finish')
    shell = ('srun', '-p', 'gpu', '--gres=gpu:2', '--job-name=job')
    process = site.start('gpu', under=shell)
    said = ''.join(process.communicate(timeout=60))
    assert process.returncode == 0, said
    assert site.lines('calls') == ['config.py --launcher slurm']


def test_in_an_allocation(site):
    site.settings['GPUS'] = '2'
    site.set('outcome', '75')
    process = site.start('gpu', under=('salloc', '-p', 'gpu', '-n', '2', '--job-name=job'))
    process.communicate(timeout=60)
    assert process.returncode == 75
    assert '--resume' not in site.lines('calls')[0]


@pytest.mark.parametrize(
    ('settings', 'said'),
    [
        ({'GPUS_PER_NODE': '4', 'GPUS': '4'}, 'a node of partition gpu has 2 GPUs'),
        ({'SBATCH_ARGS': '--time=2'}, 'GRACE=120 leaves a job of 2 no time to train'),
        ({'SBATCH_ARGS': '-t 0-1', 'GRACE': '3600'}, 'at least 62 minutes are needed'),
    ],
)
def test_what_would_wait_or_go_round_for_ever_is_refused(site, settings, said):
    site.settings |= settings
    status, line = site.ask('gpu', '--batch')
    assert status == 1 and line.count('\n') == 1 and said in line


def test_a_job_whose_default_time_is_too_short_ends_at_once(site):
    site.settings |= {'GRACE': '600'}
    job = site.submit('cpu')  # 10 minutes by the partition's default
    site.wait_until(job, 'FAILED')
    assert 'GRACE=600 leaves a job of 10:00 no time' in site.log(job)


def test_a_task_with_one_gpu_bound_to_it_takes_that(site):
    site.set('finish')
    site.settings |= {'SBATCH_ARGS': '--gpus-per-task=1', 'GPUS': '2'}
    site.wait_until(site.submit('gpu'), 'COMPLETED')
    places = [json.loads(line) for line in site.lines('places')]
    assert [place['gpus'].count(',') for place in places] == [0, 0]
    assert [place['LOCAL_RANK'] for place in places] == ['0', '0']
    assert sorted(place['RANK'] for place in places) == ['0', '1']


def test_other_forms_of_asking_for_gpus(site):
    site.set('finish')
    site.settings |= {'SBATCH_ARGS': '--gpus-per-node=1', 'GPUS': '1'}
    site.wait_until(site.submit('gpu'), 'COMPLETED')
    assert len(site.lines('calls')) == 1
