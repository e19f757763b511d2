"""How commands end: among several processes, with nobody reading, and with errors."""

import os
import socket
import subprocess
import sys

import pytest

from comad.commands import launcher
from comad.commands.launcher import LaunchError, in_processes
from comad.runs.place import FILES

# A command that leaves a thread running and an atexit handler behind.
COMMAND = """
import atexit, sys, threading, time
from comad.commands.command import command

@command
def main(argv=None):
    atexit.register(lambda: print('told at the end'))
    threading.Thread(target=time.sleep, args=(600,)).start()
    print('output')
    {end}

sys.exit(main())
"""


@pytest.mark.parametrize(
    ('end', 'status'),
    [('return 75', 75), ('return None', 0), ('sys.exit(3)', 3), ('1 / 0', 1), ('sys.exit("x")', 1)],
)
def test_one_of_several_processes_ends_with_its_status_whatever_still_runs(end, status):
    done = subprocess.run(
        [sys.executable, '-c', COMMAND.format(end=end)],
        env={**os.environ, 'WORLD_SIZE': '2'},
        cwd=FILES,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == status
    assert done.stdout.splitlines() == ['output', 'told at the end']
    assert ('ZeroDivisionError' in done.stderr) == ('/ 0' in end)


PRINTS = """
import sys
from comad.commands.command import command

@command
def main(argv=None):
    for number in range(100_000):
        print('line', number)
    open(sys.argv[1], 'w').write('all of it')
    return 4

sys.exit(main())
"""


def test_the_work_goes_on_when_nobody_reads_any_more(tmp_path):
    started = subprocess.Popen(
        [sys.executable, '-c', PRINTS, str(tmp_path / 'done')],
        cwd=FILES,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert started.stdout.readline() == 'line 0\n'
    started.stdout.close()
    assert started.stderr.read() == '' and started.wait(300) == 4
    assert (tmp_path / 'done').read_text() == 'all of it'


def test_every_command_does_so():
    sources = {file.stem: file.read_text() for file in (FILES / 'comad/commands').glob('*.py')}
    commands = {name for name, source in sources.items() if '\ndef main(' in source}
    assert commands > {
        'train',
        'test',
        'data',
        'show',
        'sweep',
        'weights',
        'benchmark',
        'leaderboard',
    }
    patient = {name for name in commands if '@command\ndef main(' in sources[name]}
    assert commands - patient == {'pretrain', 'distill'}  # one line at most, then the training


def test_a_port_in_use_is_told_before_the_processes_start(monkeypatch):
    monkeypatch.setattr(launcher, 'gpu_count', lambda: 0)
    monkeypatch.delenv('NNODES', raising=False)
    with socket.socket() as taken:
        taken.bind(('', 0))
        taken.listen()
        port = taken.getsockname()[1]
        monkeypatch.setenv('PORT', str(port))
        with pytest.raises(LaunchError, match=f'PORT is {port}, which is in use'):
            in_processes(2, 'train', ['x.py'])
    monkeypatch.setenv('PORT', '70000')
    with pytest.raises(LaunchError, match='PORT is 70000'):
        in_processes(2, 'train', ['x.py'])
