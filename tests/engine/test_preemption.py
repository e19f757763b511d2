"""Signals: saved at the step, told by exit code and marker, gone on from; in workers and groups."""

import json
import os
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from comad.engine import preemption
from comad.engine.checkpoint_files import damage, newest_valid
from comad.engine.hooks import PreemptionHook
from tests.engine.toy import run as run_toy
from tests.engine.toy import toy_config
from tests.programs import HANGS, free_port, start

ROOT = Path(__file__).resolve().parents[2]


def write_config(folder, *, iters=None, epochs=100_000, workers=0, accumulate=1):
    """A config file for tools/train.py that trains until it is told to stop."""
    config = toy_config('unused', epochs=epochs)
    config.pop('work_dir')
    config.custom_imports = dict(imports=['comad.engine.register', 'tests.engine.toy'])
    config.default_hooks.checkpoint.interval = 1_000_000
    config.default_hooks.logger = dict(type='LoggerHook', interval=1)
    config.train_dataloader.num_workers = workers
    config.optim_wrapper.accumulative_counts = accumulate
    config.log_level = 'INFO'
    if iters is not None:
        config.train_cfg = dict(by_epoch=False, max_iters=iters)
        config.train_dataloader.sampler.type = 'InfiniteSampler'
        config.param_scheduler = dict(type='ConstantLR', factor=1.0, by_epoch=False)
        config.default_hooks.checkpoint.by_epoch = False
        config.log_processor = dict(by_epoch=False)
    path = folder / 'toy.py'
    config.dump(path)
    return path


def training(folder, config, *arguments):
    """tools/train.py in a process group of its own, and its work dir."""
    log = folder / f'log{len(list(folder.glob("log*")))}'
    run = folder / 'run'
    return start(log, 'tools/train.py', config, '--work-dir', run, *arguments, cwd=ROOT), run


@pytest.mark.parametrize('number', [signal.SIGTERM, signal.SIGUSR1, signal.SIGINT])
def test_a_signal_saves_at_that_step_and_the_run_goes_on(tmp_path, number):
    config = write_config(tmp_path, iters=100_000, accumulate=3)
    first, folder = training(tmp_path, config)
    first.wait_for('Iter(train) [    10/')
    os.kill(first.pid, number)
    assert first.end() == preemption.PREEMPTED, first.text()[-3000:]
    marker = json.loads((folder / 'requeue').read_text())
    step = marker['step']
    assert marker['signal'] == number.name and marker['checkpoint'] == f'iter_{step}.pth'
    assert step >= 10 and step % 3 == 0  # an update of the weights
    assert f'[{step + 1:6d}/' not in first.text()
    assert f'after step {step}; --resume goes on' in first.text().splitlines()[-1]
    assert 'Traceback' not in first.text()
    assert newest_valid(folder) == (folder / f'iter_{step}.pth', [])

    if number != signal.SIGTERM:
        return
    # The same command, now with its end in sight.
    config = write_config(tmp_path, iters=step + 3, accumulate=3)
    second, _ = training(tmp_path, config, '--resume')
    assert second.end() == 0, second.text()[-3000:]
    assert f'[{step + 1:2d}/' in second.text() and f'[{step:2d}/' not in second.text()
    assert not (folder / 'requeue').exists()

    # In processor time, which other work on the machine does not lengthen.
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    command = [sys.executable, 'tools/train.py', str(config), '--work-dir', str(folder)]
    third = subprocess.run([*command, '--resume', 'auto'], cwd=ROOT, capture_output=True, text=True)
    assert third.returncode == 0
    assert third.stderr + third.stdout == f'{folder} is finished: nothing to resume\n'
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 20


def test_a_second_interrupt_stops_at_once(tmp_path):
    # With such an accumulation the first request is never answered.
    config = write_config(tmp_path, iters=100_000, accumulate=90_000)
    run, folder = training(tmp_path, config)
    run.wait_for('[     3/')
    os.kill(run.pid, signal.SIGINT)
    run.wait_for('Ctrl-C again stops at once')
    os.kill(run.pid, signal.SIGINT)
    assert run.end() == preemption.INTERRUPTED
    assert 'Traceback' not in run.text()
    assert list(folder.glob('*.pth')) == [] and not (folder / 'requeue').exists()


@pytest.mark.parametrize('number', [signal.SIGTERM, signal.SIGINT])
def test_workers_survive_a_signal_to_the_group(tmp_path, number):
    config = write_config(tmp_path, iters=100_000, workers=2)
    run, _ = training(tmp_path, config)
    run.wait_for('[     3/')
    os.killpg(run.pid, number)
    assert run.end() == preemption.PREEMPTED, run.text()[-3000:]
    assert 'Traceback' not in run.text() and 'killed' not in run.text()


def test_a_signal_before_the_first_step_ends_at_once(tmp_path):
    """Also in a call that lets no handler run, here waiting for a process that never comes."""
    outcome, folder = tmp_path / 'outcome', tmp_path / 'run'
    with free_port() as (port, _):
        pass
    place = dict(RANK='0', LOCAL_RANK='0', WORLD_SIZE='2', MASTER_ADDR='127.0.0.1')
    words = (
        'tools/train.py',
        write_config(tmp_path),
        '--work-dir',
        folder,
        '--launcher',
        'pytorch',
    )
    variables = dict(place, MASTER_PORT=str(port), COMAD_OUTCOME=str(outcome))
    run = start(tmp_path / 'log', *words, cwd=ROOT, **variables)
    end = time.monotonic() + HANGS
    while not (folder / 'lease').exists():
        assert time.monotonic() < end, run.text()
        time.sleep(0.1)
    time.sleep(1)
    os.kill(run.pid, signal.SIGUSR1)
    assert run.end() == preemption.PREEMPTED, run.text()[-3000:]
    assert run.text() == 'SIGUSR1: stopped before the first step; --resume begins again\n'
    assert outcome.read_text() == '75\n'


def test_the_end_of_the_job_asks_for_a_stop(monkeypatch):
    monkeypatch.setattr(preemption, 'GRACE', 1.0)
    request = preemption.StopRequest()
    for left, expected in ((1.1, 'SIGUSR1'), (60.0, None), (None, None)):
        with request.listen(left):
            end = time.monotonic() + (HANGS if expected else 0.3)
            while request.signal is None and time.monotonic() < end:
                time.sleep(0.01)
        assert request.signal == expected


def test_checkpoints_are_never_older_than_their_minutes(tmp_path):
    config = toy_config(tmp_path, epochs=2)
    config.default_hooks.checkpoint.update(interval=100, minutes=0, max_keep_ckpts=-1)
    run_toy(config)
    names = sorted(path.name for path in tmp_path.glob('*.pth'))
    # Not at the ends of the epochs of four steps; the last step is always saved.
    within = [f'epoch_{step // 4}_iter_{step}.pth' for step in (1, 2, 3, 5, 6, 7)]
    assert names == [*within, 'epoch_2.pth']


def test_in_epochs_the_file_says_epoch_and_step(tmp_path):
    run, folder = training(tmp_path, write_config(tmp_path))
    run.wait_for('[2][1/4]')
    os.kill(run.pid, signal.SIGTERM)
    assert run.end() == preemption.PREEMPTED, run.text()[-3000:]
    marker = json.loads((folder / 'requeue').read_text())
    epochs, steps = divmod(marker['step'], 4)
    name = f'epoch_{epochs}_iter_{marker["step"]}.pth' if steps else f'epoch_{epochs}.pth'
    assert marker['checkpoint'] == name and damage(folder / name) is None


def test_damaged_checkpoints_at_resume(tmp_path):
    config = write_config(tmp_path, iters=100_000)
    often = ['--cfg-options', 'default_hooks.checkpoint.interval=2']
    run, folder = training(tmp_path, config, *often)
    run.wait_for('[     5/')
    os.kill(run.pid, signal.SIGTERM)
    assert run.end() == preemption.PREEMPTED
    newest = newest_valid(folder)[0]
    os.truncate(newest, 1000)
    before = newest_valid(folder)[0]
    step = int(before.stem.removeprefix('iter_'))
    config = write_config(tmp_path, iters=step + 2)
    again, _ = training(tmp_path, config, '--resume')
    assert again.end() == 0, again.text()[-3000:]
    (line,) = [line for line in again.text().splitlines() if 'is damaged' in line]
    assert str(newest) in line and line.endswith(f'resuming from {before} instead')
    assert f'[{step + 1:2d}/' in again.text() or f'[{step + 1:1d}/' in again.text()

    for path in folder.glob('*.pth'):
        os.truncate(path, 1000)
    (folder / 'finished').unlink()
    refused, _ = training(tmp_path, config, '--resume')
    assert refused.end() == 2
    told = [line for line in refused.text().splitlines() if line.startswith('error: ')]
    assert len(told) == 1 and 'nothing to resume from' in told[0]
    assert 'Traceback' not in refused.text()


def test_two_processes_agree_though_one_got_the_signal(tmp_path):
    config = write_config(tmp_path, iters=100_000)
    command = [sys.executable, '-m', 'comad.commands.torchrun', '--nproc_per_node=2']
    command.append('--standalone')
    log = tmp_path / 'log'
    with log.open('w') as stream:
        run = subprocess.Popen(
            [*command, 'tools/train.py', str(config), '--launcher', 'pytorch']
            + ['--work-dir', str(tmp_path / 'run')],
            cwd=ROOT,
            env={**os.environ, 'OMP_NUM_THREADS': '1', 'PYTHONUNBUFFERED': '1'},
            stdout=stream,
            stderr=subprocess.STDOUT,
        )
    try:
        end = time.monotonic() + HANGS
        while '[     3/' not in log.read_text():
            assert run.poll() is None and time.monotonic() < end, log.read_text()[-3000:]
            time.sleep(0.1)
        children = Path(f'/proc/{run.pid}/task/{run.pid}/children').read_text().split()
        os.kill(int(children[-1]), signal.SIGUSR1)
        assert run.wait(90) == preemption.PREEMPTED, log.read_text()[-3000:]
    finally:
        run.kill()
    assert json.loads((tmp_path / 'run' / 'requeue').read_text())['signal'] == 'SIGUSR1'
    assert log.read_text().count('--resume goes on') == 1 and 'Traceback' not in log.read_text()


def test_a_validation_is_left_only_when_its_step_is_saved(tmp_path, monkeypatch):
    class Saver:
        saved_steps, last_ckpt = 6, 'iter_6.pth'

        def is_late(self):
            return False

    class Runner:
        iter, work_dir = 6, str(tmp_path)

    hook = PreemptionHook()
    hook.saver, hook.group, hook.training, hook.validation_steps = Saver(), None, True, 9
    monkeypatch.setattr(preemption.stop_request, 'signal', None)
    hook.after_val_iter(Runner(), 0)
    monkeypatch.setattr(preemption.stop_request, 'signal', 'SIGTERM')
    with pytest.raises(preemption.Preempted, match='iter_6.pth after step 6'):
        hook.after_val_iter(Runner(), 1)
    assert json.loads((tmp_path / 'requeue').read_text())['step'] == 6
    hook.saver.saved_steps = 5
    hook.after_val_iter(Runner(), 2)
