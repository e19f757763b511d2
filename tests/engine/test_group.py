"""How processes meet and how long they wait: Slurm's tasks, unknown machines, hung processes."""

import os
import signal
import time

import pytest
import torch.distributed

from comad.engine import group, slurm
from comad.engine.failures import Passing, explain
from comad.engine.options import ConfigError
from comad.engine.preemption import LOST
from tests.engine.test_preemption import ROOT, write_config
from tests.programs import free_port, start

TASK = {
    'SLURM_PROCID': '3',
    'SLURM_LOCALID': '1',
    'SLURM_JOB_ID': '12',
    'SLURM_STEP_ID': '0',
    'SLURM_NTASKS': '9',  # the allocation's, not the step's
    'SLURM_STEP_NUM_TASKS': '4',
    'SLURM_STEP_NUM_NODES': '2',
    'SLURM_STEP_NODELIST': 'gpu[07-08]',
}


@pytest.fixture
def answers(monkeypatch):
    """What Slurm's commands answer, by their last word."""
    said = {'gpu[07-08]': 'gpu07\ngpu08', 'gpu07': 'NodeName=gpu07 NodeAddr=10.0.0.7 Port=1'}
    monkeypatch.setattr(slurm, '_ask', lambda *command: said.get(command[-1], ''))
    monkeypatch.setattr(slurm, 'is_known', lambda name: name in said.get('known', ''))
    return said


def test_a_task_of_slurm_learns_its_place(answers):
    place = slurm.place_of_task(TASK, gpus=8)
    assert place | {'MASTER_PORT': ''} == {
        'RANK': '3',
        'WORLD_SIZE': '4',
        'LOCAL_RANK': '1',
        'MASTER_ADDR': '10.0.0.7',
        'MASTER_PORT': '',
    }
    answers['known'] = ['gpu07']
    assert slurm.place_of_task(TASK, 8)['MASTER_ADDR'] == 'gpu07'
    assert slurm.place_of_task({**TASK, 'SLURM_STEP_NUM_NODES': '1'}, 8)['MASTER_ADDR'] == (
        '127.0.0.1'
    )
    given = {'MASTER_ADDR': 'here', 'MASTER_PORT': '7'}
    assert slurm.place_of_task(TASK | given, 8).items() >= given.items()


def test_ports_differ_between_jobs_steps_and_starts(answers):
    others = ({}, {'SLURM_JOB_ID': '13'}, {'SLURM_STEP_ID': '1'}, {'SLURM_RESTART_COUNT': '1'})
    ports = {int(slurm.place_of_task(TASK | other, 0)['MASTER_PORT']) for other in others}
    assert len(ports) == 4 and ports <= set(slurm.PORTS)


def test_a_task_takes_the_gpu_that_it_sees(answers):
    assert slurm.place_of_task(TASK, gpus=1)['LOCAL_RANK'] == '0'  # bound to its own
    assert slurm.place_of_task(TASK, gpus=0)['LOCAL_RANK'] == '1'
    with pytest.raises(ConfigError, match='process 4 of this machine, which sees 2 GPUs'):
        slurm.place_of_task({**TASK, 'SLURM_LOCALID': '3'}, gpus=2)


@pytest.mark.parametrize(
    ('said', 'seconds'),
    [('1-02:03:04', 93784.0), ('2:03:04', 7384.0), ('3:04', 184.0), ('0:00', 0.0),
     ('UNLIMITED', None), ('', None)],
)  # fmt: skip
def test_the_end_of_a_job(answers, monkeypatch, said, seconds):
    monkeypatch.setenv('SLURM_JOB_ID', '12')
    answers['%L'] = said
    assert slurm.seconds_left() == seconds
    monkeypatch.delenv('SLURM_JOB_ID')
    assert slurm.seconds_left() is None


def test_an_unknown_machine_is_named_at_once(monkeypatch):
    monkeypatch.setenv('MASTER_ADDR', 'no-such-host.invalid')
    monkeypatch.setattr(group, 'is_known', lambda name: False)
    with pytest.raises(ConfigError, match=r'no-such-host\.invalid .*MASTER_ADDR'):
        group.join('pytorch', {})


def test_a_port_in_use_is_the_machines_failure(monkeypatch):
    with free_port() as (port, _):
        monkeypatch.setenv('MASTER_PORT', str(port))
        with pytest.raises(RuntimeError) as error:
            torch.distributed.TCPStore('127.0.0.1', port, 2, is_master=True)
    told = explain(error.value, None)
    assert isinstance(told, Passing) and f'port {port} is in use on' in told


def test_a_hung_process_ends_the_run_in_one_line(tmp_path):
    config = write_config(tmp_path, iters=100_000)
    with open(config, 'a') as file:
        file.write("env_cfg = dict(dist_cfg=dict(backend='nccl', timeout=5))\n")
    with free_port() as (port, _):
        pass
    place = dict(MASTER_ADDR='127.0.0.1', MASTER_PORT=str(port), WORLD_SIZE='2')
    words = ('tools/train.py', config, '--work-dir', tmp_path / 'run', '--launcher', 'pytorch')
    first, second = (
        start(tmp_path / f'log{rank}', *words, cwd=ROOT, RANK=rank, LOCAL_RANK=rank, **place)
        for rank in '01'
    )
    try:
        first.wait_for('Iter(train) [     5/')
        os.kill(second.pid, signal.SIGSTOP)
        began = time.monotonic()
        assert first.end() == LOST, first.text()[-3000:]
        assert time.monotonic() - began < 100
    finally:
        os.kill(second.pid, signal.SIGKILL)
    assert first.text().splitlines()[-1] == (
        'error: another process has not answered in time (env_cfg.dist_cfg.timeout): it hangs, or '
        'its machine is gone; go on with --resume'
    )
    assert 'Traceback' not in first.text()
