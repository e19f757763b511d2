"""One run per work dir, and finished ones stay; whoever died, or is gone, is no owner."""

import json
import os
import subprocess
import sys
import time

import pytest

from comad.engine import lease
from comad.engine.lease import LEASE, leased
from comad.engine.options import ConfigError
from comad.engine.preemption import write_finished
from comad.engine.replaced import check_replaced, clear

HOLD = """
import sys, time
from comad.engine.lease import leased
with leased(sys.argv[1]):
    print('held', flush=True)
    time.sleep(float(sys.argv[2]))
"""


def holder(folder, seconds=600):
    process = subprocess.Popen(
        [sys.executable, '-c', HOLD, str(folder), str(seconds)], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout.readline() == 'held\n'
    return process


def test_a_folder_has_one_run_until_it_ends_or_is_killed(tmp_path):
    folder = tmp_path / 'a' / 'run'
    other = holder(folder)
    try:
        with pytest.raises(ConfigError) as error, leased(folder):
            pass
        for said in (str(folder), f'process {other.pid} on ', 'since 20', '--work-dir'):
            assert said in str(error.value)
        assert json.loads((folder / LEASE).read_text())['pid'] == other.pid
    finally:
        other.kill()
        other.wait()
    with leased(folder):
        assert json.loads((folder / LEASE).read_text())['pid'] == os.getpid()
        with pytest.raises(ConfigError), leased(folder):
            pass
    assert list(folder.iterdir()) == []


def test_a_forked_process_does_not_keep_the_lease(tmp_path):
    with leased(tmp_path):
        if (child := os.fork()) == 0:
            time.sleep(600)
            os._exit(0)
    try:
        with leased(tmp_path):
            pass
    finally:
        os.kill(child, 9)
        os.waitpid(child, 0)


def of_another_machine(folder, age):
    owner = {**lease._me(), 'machine': 'elsewhere', 'host': 'node7', 'since': 'then'}
    (folder / LEASE).write_text(json.dumps(owner))
    now = lease._now(folder)
    os.utime(folder / LEASE, (now - age, now - age))


def test_another_machine_owns_it_while_it_is_heard_of(tmp_path):
    of_another_machine(tmp_path, age=lease.SILENCE / 2)
    said = r'on node7 since then.*if that machine is gone, wait 5'
    with pytest.raises(ConfigError, match=said), leased(tmp_path):
        pass
    of_another_machine(tmp_path, age=2 * lease.SILENCE)
    with leased(tmp_path):
        pass


def test_a_job_that_is_queued_again_waits_for_its_other_machine(tmp_path, monkeypatch):
    monkeypatch.setattr(lease, 'BEAT', 0.06)
    monkeypatch.setattr(lease, 'SILENCE', 1.0)
    monkeypatch.setenv('SLURM_JOB_ID', '7')
    of_another_machine(tmp_path, age=0)
    began = time.monotonic()
    with leased(tmp_path):
        assert time.monotonic() - began > 0.5
    of_another_machine(tmp_path, age=0)
    monkeypatch.setenv('SLURM_JOB_ID', '8')
    with pytest.raises(ConfigError, match=r'Slurm job 7'), leased(tmp_path):
        pass


def test_it_is_touched_meanwhile(tmp_path, monkeypatch):
    monkeypatch.setattr(lease, 'BEAT', 0.01)
    with leased(tmp_path):
        os.utime(tmp_path / LEASE, (0, 0))
        end = time.monotonic() + 60
        while (tmp_path / LEASE).stat().st_mtime == 0:
            assert time.monotonic() < end
            time.sleep(0.01)


def test_without_locks_the_process_is_looked_up(tmp_path, monkeypatch):
    def none(*_):
        raise OSError(38, 'Function not implemented')

    monkeypatch.setattr(lease.fcntl, 'flock', none)
    (tmp_path / LEASE).write_text(json.dumps(lease._me()))
    with pytest.raises(ConfigError), leased(tmp_path):
        pass
    # The number of a dead process, which another one may have got since.
    (tmp_path / LEASE).write_text(json.dumps({**lease._me(), 'started': '1'}))
    with leased(tmp_path):
        pass


@pytest.mark.parametrize('content', ['', '{"pid": ', '[1]'])
def test_a_lease_that_says_nothing_is_nobodys(tmp_path, content):
    (tmp_path / LEASE).write_text(content)
    with leased(tmp_path):
        pass


def test_a_work_dir_that_is_a_file_is_named(tmp_path):
    (tmp_path / 'file').touch()
    for folder in (tmp_path / 'file', tmp_path / 'file' / 'run'):
        with pytest.raises(ConfigError, match=r'work dir .*file.*--work-dir'), leased(folder):
            pass


def test_a_finished_run_is_replaced_only_for_overwrite(tmp_path, capsys):
    check_replaced(tmp_path, overwrite=False)
    for name in ('epoch_1.pth', 'epoch_1.pth.sha256', 'last_checkpoint', 'student.json', 'a.log'):
        (tmp_path / name).touch()
    check_replaced(tmp_path, overwrite=False)
    assert '--resume goes on with it' in capsys.readouterr().err
    write_finished(tmp_path, 'digest')
    with pytest.raises(ConfigError) as error:
        check_replaced(tmp_path, overwrite=False)
    for said in ('finished run', '--overwrite', 'epoch_1.pth', 'student.json'):
        assert said in str(error.value)
    check_replaced(tmp_path, overwrite=True)
    clear(tmp_path)
    said = capsys.readouterr().err
    assert 'epoch_1.pth' in said and 'a.log' not in said
    assert [path.name for path in tmp_path.iterdir()] == ['a.log']
