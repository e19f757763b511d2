"""Tasks in several processes, and what becomes of them when one is killed."""

import fcntl
import os
import signal
import subprocess
import sys
import time

import pytest

from comad.data.pool import run_tasks


def square(number):
    return number**2


def die(number):
    os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.parametrize('workers', [1, 3])
def test_every_task_has_a_result(workers):
    assert sorted(run_tasks(square, range(20), workers)) == [n**2 for n in range(20)]


def test_a_killed_worker_is_one_clear_line():
    with pytest.raises(RuntimeError, match='a worker process was killed, perhaps for want of'):
        list(run_tasks(die, range(4), 2))


HOLDER = """
import fcntl, sys, time
from comad.data.pool import run_tasks

def work(number):
    print(number, flush=True)
    time.sleep(300)

with open(sys.argv[1], 'w') as lock:
    fcntl.flock(lock, fcntl.LOCK_EX)
    list(run_tasks(work, range(4), 2))
"""


@pytest.mark.parametrize('number', [signal.SIGTERM, signal.SIGKILL])
def test_workers_end_with_their_parent_and_leave_its_lock(tmp_path, number):
    path = tmp_path / 'lock'
    with subprocess.Popen(
        [sys.executable, '-c', HOLDER, str(path)],
        stdout=subprocess.PIPE,
        env={**os.environ, 'PYTHONPATH': os.pathsep.join(sys.path)},
    ) as parent:
        assert parent.stdout.readline()  # a worker works
        parent.send_signal(number)
    end = time.monotonic() + 30
    with path.open('w') as lock:
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                assert time.monotonic() < end
                time.sleep(0.05)
