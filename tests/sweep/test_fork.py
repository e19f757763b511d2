"""Steps as forks of a process that has imported the suite: what they leave, say and cost."""

import os
import signal
import subprocess
import time

import pytest

from comad.commands.sweep import make_sweep
from comad.sweep import fork
from comad.sweep.fork import Fork
from comad.sweep.process import Job, terminate
from comad.sweep.runner import Sweep
from comad.sweep.step import Step

# Says what it was given, and whether torch was there before it imported anything.
PROGRAM = """
import os, sys
print(*sys.argv[1:], __name__, 'torch' in sys.modules, os.environ['OMP_NUM_THREADS'])
open('out', 'w').write(os.getcwd())
sys.exit(int(sys.argv[1]))
"""


@pytest.fixture
def run(tmp_path):
    """Run a tool of that name, with what it was started as; its outcome, log and kind."""
    lines = []

    def build(name, code, forks=True):
        tool = tmp_path / name
        tool.write_text(PROGRAM)
        step = Step('step', ('python', str(tool), str(code)), ('out',))
        outcome = Sweep('grid', [step], tmp_path, 'state', forks=forks, report=lines.append).run()
        return outcome, (tmp_path / 'state/grid/step.log').read_text().splitlines(), lines

    return build


@pytest.mark.parametrize(
    ('name', 'forks', 'imported'),
    [('train.py', True, True), ('train.py', False, False), ('data.py', True, False)],
)
def test_tools_that_import_torch_find_it_imported(run, tmp_path, name, forks, imported):
    outcome, log, _ = run(name, 0, forks)
    assert outcome.complete and outcome.peak_mb > 10
    assert log[0].startswith('$ python ') and log[0].endswith(f'{name} 0')
    given = '0 --overwrite' if name == 'train.py' else '0'
    assert log[1] == f'{given} __main__ {imported} 1'
    assert (tmp_path / 'out').read_text() == str(tmp_path)


def test_a_fork_that_fails_is_told_like_any_other(run):
    outcome, log, lines = run('train.py', 3)
    assert outcome.failed == ['step'] and '3 --overwrite __main__ True 1' in log
    assert any(line.startswith('[1/1] step: FAILED (exit 3) after ') for line in lines)


def test_changed_code_is_not_forked_from_what_was_read_before(run, monkeypatch):
    assert fork.is_current()
    monkeypatch.setattr(fork, 'PACKAGES', fork.PACKAGES[:1])
    assert not fork.is_current()
    outcome, log, _ = run('train.py', 0)
    assert outcome.complete and log[1] == '0 --overwrite __main__ False 1'


def test_the_sources_are_those_of_the_suite(tmp_path, monkeypatch):
    names = {os.path.basename(name) for name, *_ in fork.sources()}
    assert {'fork.py', 'runner.py', 'vit.py', 'comad.py'} <= names
    monkeypatch.setattr(fork, 'PACKAGES', (tmp_path,))
    (tmp_path / 'a.py').write_text('1\n')
    (tmp_path / '.#a.py').symlink_to('an editor has it open')
    (tmp_path / 'gone.py').symlink_to('nowhere')
    before = fork.sources()
    assert len(before) == 1
    (tmp_path / 'a.py').write_text('1\n2\n')
    assert fork.sources() != before


@pytest.mark.parametrize(
    ('track', 'gpus', 'forks'), [('sample', 0, True), ('sample', 1, False), ('full', 0, False)]
)
def test_steps_of_seconds_are_forks_where_there_is_no_gpu(monkeypatch, track, gpus, forks):
    monkeypatch.setattr('comad.commands.sweep.gpu_count', lambda: gpus)
    monkeypatch.setattr('comad.sweep.plan.priced', lambda steps, *_, **__: steps)
    assert make_sweep('study', 1, track=track).forks == forks


STUBBORN = """
import os, signal, sys, time
if not os.fork():
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    print(os.getpid(), flush=True)
time.sleep(300)
"""


@pytest.fixture
def start(tmp_path):
    """Start a program as a step; it ends with the test."""
    jobs = []

    def build(program):
        (tmp_path / 'train.py').write_text(program)
        step = Step('step', ('python', str(tmp_path / 'train.py')), ('out',))
        log = tmp_path / f'log{len(jobs)}'
        jobs.append(Job(step, step.command, tmp_path, log, {}, forks=True))
        assert isinstance(jobs[-1].process, Fork)
        return jobs[-1]

    yield build
    terminate(jobs, grace=0)


def said(job, lines=1):
    end = time.monotonic() + 60
    while len(job.tail(lines + 1)) <= lines:
        assert time.monotonic() < end and job.process.poll() is None
        time.sleep(0.05)
    return job.tail(lines)


def test_a_fork_ends_with_its_whole_group(start):
    job = start(STUBBORN)
    child = int(said(job)[0])
    with pytest.raises(subprocess.TimeoutExpired):
        job.process.wait(0.01)
    terminate([job], grace=1)
    assert job.process.returncode == -signal.SIGTERM and job.process.peak_mb > 10
    end = time.monotonic() + 20
    while state_of(child) not in ('', 'Z'):
        assert time.monotonic() < end
        time.sleep(0.05)


@pytest.mark.parametrize(
    ('end', 'code', 'said'),
    [
        ('sys.exit()', 0, 'bye'),
        ('sys.exit(300)', 44, 'bye'),
        ("sys.exit('no such file')", 1, 'no such file bye'),
        ("raise ValueError('this one')", 1, 'ValueError: this one bye'),
        ('raise KeyboardInterrupt', -signal.SIGINT, 'KeyboardInterrupt bye'),
        ('sys.exit(2**64)', 255, 'bye'),
        ('sys.exit(0.0)', 1, '0.0 bye'),
        ('sys.stdout.close()', 0, ''),
    ],
)
def test_a_fork_ends_as_python_itself_ends(start, end, code, said):
    job = start(f"import atexit, sys\natexit.register(print, 'bye', end='')\n{end}\n")
    assert job.process.wait(60) == code
    assert ' '.join(job.tail(2)).endswith(said)


OWN = """
import multiprocessing, os, numpy, torch
print(os.getsid(0) == os.getpid(), os.readlink('/proc/self/fd/0'), torch.get_num_threads())
print(multiprocessing.get_start_method(allow_none=True), numpy.random.randint(2**31))
"""


def test_a_fork_is_a_process_like_any_other(start):
    first, second = (start(OWN) for _ in range(2))
    lines = []
    for job in (first, second):
        assert job.process.wait(60) == 0
        lines.append(job.tail(2))
        assert lines[-1][0] == 'True /dev/null 1'
    assert all(line[1].startswith('None ') for line in lines) and lines[0][1] != lines[1][1]


@pytest.fixture
def own_server(monkeypatch):
    """A server that this test may kill."""
    made = fork.Server()
    monkeypatch.setattr(fork, 'server', lambda: made)
    yield made
    made._process.kill()
    made._process.wait()


def test_what_a_lost_server_has_started_is_waited_for(own_server, start):
    job = start('import time\nprint(1, flush=True)\ntime.sleep(1)\n')
    said(job)
    own_server._process.kill()
    own_server._process.wait()
    assert job.process.wait(60) == fork.LOST
    assert own_server.is_lost and not fork.is_current()
    with pytest.raises(fork.ServerLost):
        Fork(['train.py'], job.log, job.log.parent, os.environ)


def test_an_interrupted_start_leaves_no_process(own_server, tmp_path, monkeypatch):
    """Ctrl-C while the server imports; what it was asked for has not begun and never does."""

    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(own_server, '_listen', interrupted)
    with pytest.raises(KeyboardInterrupt):
        Fork(['train.py'], tmp_path / 'log', tmp_path, os.environ)
    assert own_server._process.wait(20) == -signal.SIGKILL and not (tmp_path / 'log').exists()


def test_a_server_ends_what_it_has_started_when_nobody_asks_any_more(own_server, start):
    job = start('import time\nprint(1, flush=True)\ntime.sleep(300)\n')
    said(job)
    own_server._requests.close()
    assert own_server._process.wait(20) == 0 and job.process.wait(20) in (fork.LOST, -15)


def state_of(pid):
    """State of a process; '' where there is none."""
    try:
        with open(f'/proc/{pid}/stat') as file:
            return file.read().rpartition(')')[2].split()[0]
    except FileNotFoundError:
        return ''
