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
from tests.engine.toy import toy_config

ROOT = Path(__file__).resolve().parents[2]
HANGS = 300  # seconds after which a process has stopped for good, however busy the machine is
ENVIRONMENT = {**os.environ, 'OMP_NUM_THREADS': '1', 'PYTHONUNBUFFERED': '1'}


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


class Training:
    """tools/train.py in a process group of its own."""

    def __init__(self, folder, config, *arguments):
        self.folder = folder / 'run'
        self.log = folder / f'log{len(list(folder.glob("log*")))}'
        command = [sys.executable, 'tools/train.py', str(config), '--work-dir', str(self.folder)]
        with self.log.open('w') as stream:
            self.process = subprocess.Popen(
                [*command, *arguments],
                cwd=ROOT,
                env=ENVIRONMENT,
                stdout=stream,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
            )

    def text(self):
        return self.log.read_text()

    def wait_for(self, what, seconds=HANGS):
        end = time.monotonic() + seconds
        while what not in self.text():
            if self.process.poll() is not None or time.monotonic() > end:
                self.process.kill()
                pytest.fail(self.text()[-3000:])
            time.sleep(0.05)
        return self

    def end(self, seconds=HANGS):
        try:
            return self.process.wait(seconds)
        finally:
            if self.process.poll() is None:
                os.killpg(self.process.pid, signal.SIGKILL)


@pytest.mark.parametrize('number', [signal.SIGTERM, signal.SIGUSR1, signal.SIGINT])
def test_a_signal_saves_at_that_step_and_the_run_goes_on(tmp_path, number):
    config = write_config(tmp_path, iters=100_000, accumulate=3)
    first = Training(tmp_path, config).wait_for('Iter(train) [    10/')
    first.process.send_signal(number)
    assert first.end() == preemption.PREEMPTED, first.text()[-3000:]
    marker = json.loads((first.folder / 'requeue').read_text())
    step = marker['step']
    assert marker['signal'] == number.name and marker['checkpoint'] == f'iter_{step}.pth'
    assert step >= 10 and step % 3 == 0  # an update of the weights
    assert f'[{step + 1:6d}/' not in first.text()
    assert f'after step {step}; --resume goes on' in first.text().splitlines()[-1]
    assert 'Traceback' not in first.text()
    assert newest_valid(first.folder) == (first.folder / f'iter_{step}.pth', [])

    if number != signal.SIGTERM:
        return
    # The same command, now with its end in sight.
    config = write_config(tmp_path, iters=step + 3, accumulate=3)
    second = Training(tmp_path, config, '--resume')
    assert second.end() == 0, second.text()[-3000:]
    assert f'[{step + 1:2d}/' in second.text() and f'[{step:2d}/' not in second.text()
    assert not (second.folder / 'requeue').exists()

    # In processor time, which other work on the machine does not lengthen.
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    third = Training(tmp_path, config, '--resume', 'auto')
    assert third.end() == 0
    assert third.text() == f'{third.folder} is finished: nothing to resume\n'
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 20


def test_a_second_interrupt_stops_at_once(tmp_path):
    # With such an accumulation the first request is never answered.
    config = write_config(tmp_path, iters=100_000, accumulate=90_000)
    run = Training(tmp_path, config).wait_for('[     3/')
    run.process.send_signal(signal.SIGINT)
    run.wait_for('Ctrl-C again stops at once')
    run.process.send_signal(signal.SIGINT)
    assert run.end() == preemption.INTERRUPTED
    assert 'Traceback' not in run.text()
    assert list(run.folder.glob('*.pth')) == [] and not (run.folder / 'requeue').exists()


@pytest.mark.parametrize('number', [signal.SIGTERM, signal.SIGINT])
def test_workers_survive_a_signal_to_the_group(tmp_path, number):
    config = write_config(tmp_path, iters=100_000, workers=2)
    run = Training(tmp_path, config).wait_for('[     3/')
    os.killpg(run.process.pid, number)
    assert run.end() == preemption.PREEMPTED, run.text()[-3000:]
    assert 'Traceback' not in run.text() and 'killed' not in run.text()


def test_in_epochs_the_file_says_epoch_and_step(tmp_path):
    run = Training(tmp_path, write_config(tmp_path)).wait_for('[2][1/4]')
    run.process.send_signal(signal.SIGTERM)
    assert run.end() == preemption.PREEMPTED, run.text()[-3000:]
    marker = json.loads((run.folder / 'requeue').read_text())
    epochs, steps = divmod(marker['step'], 4)
    name = f'epoch_{epochs}_iter_{marker["step"]}.pth' if steps else f'epoch_{epochs}.pth'
    assert marker['checkpoint'] == name and damage(run.folder / name) is None


def test_damaged_checkpoints_at_resume(tmp_path):
    config = write_config(tmp_path, iters=100_000)
    run = Training(tmp_path, config, '--cfg-options', 'default_hooks.checkpoint.interval=2')
    run.wait_for('[     5/').process.send_signal(signal.SIGTERM)
    assert run.end() == preemption.PREEMPTED
    newest = newest_valid(run.folder)[0]
    os.truncate(newest, 1000)
    before = newest_valid(run.folder)[0]
    step = int(before.stem.removeprefix('iter_'))
    config = write_config(tmp_path, iters=step + 2)
    again = Training(tmp_path, config, '--resume')
    assert again.end() == 0, again.text()[-3000:]
    (line,) = [line for line in again.text().splitlines() if 'is damaged' in line]
    assert str(newest) in line and line.endswith(f'resuming from {before} instead')
    assert f'[{step + 1:2d}/' in again.text() or f'[{step + 1:1d}/' in again.text()

    for path in run.folder.glob('*.pth'):
        os.truncate(path, 1000)
    (run.folder / 'finished').unlink()
    refused = Training(tmp_path, config, '--resume')
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
            env=ENVIRONMENT,
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
