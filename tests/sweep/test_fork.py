"""Steps as forks of a process that has imported the suite: what they leave, say and cost."""

import multiprocessing
import os
import signal
import subprocess
import sys
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
    assert '[1/1] step: FAILED (exit 3) after 0 s' in lines


def test_changed_code_is_not_forked_from_what_was_read_before(run, monkeypatch):
    monkeypatch.setattr(fork, '_sources', lambda: 'edited meanwhile')
    outcome, log, _ = run('train.py', 0)
    assert outcome.complete and log[1] == '0 --overwrite __main__ False 1'


@pytest.mark.parametrize(
    ('track', 'gpus', 'forks'), [('sample', 0, True), ('sample', 1, False), ('full', 0, False)]
)
def test_steps_of_seconds_are_forks_where_there_is_no_gpu(monkeypatch, track, gpus, forks):
    monkeypatch.setattr('comad.commands.sweep.gpu_count', lambda: gpus)
    monkeypatch.setattr('comad.sweep.plan.priced', lambda steps, *_, **__: steps)
    assert make_sweep('study', 1, track=track).forks == forks


def test_the_sources_are_those_of_the_suite():
    names = {os.path.basename(name) for name, *_ in fork._sources()}
    assert {'fork.py', 'runner.py', 'vit.py', 'comad.py'} <= names


def test_a_fork_ends_with_its_whole_group(tmp_path):
    (tmp_path / 'train.py').write_text(
        'import subprocess, time\n'
        'print(subprocess.Popen(["sleep", "300"]).pid, flush=True)\ntime.sleep(300)\n'
    )
    step = Step('step', ('python', str(tmp_path / 'train.py')), ('out',))
    job = Job(step, step.command, tmp_path, tmp_path / 'log', {}, forks=True)
    assert isinstance(job.process, Fork)
    end = time.monotonic() + 60
    while len(job.tail(5)) < 2:
        assert time.monotonic() < end and job.process.poll() is None
        time.sleep(0.05)
    child = int(job.tail(1)[0])
    with pytest.raises(subprocess.TimeoutExpired):
        job.process.wait(0.01)
    terminate([job], grace=20)
    assert job.process.returncode == -signal.SIGTERM
    assert state_of(child) in ('', 'Z')


def test_an_interrupted_start_leaves_no_process(tmp_path, monkeypatch):
    class Told:
        def recv(self):
            raise KeyboardInterrupt

    pipe = multiprocessing.Pipe
    monkeypatch.setattr(multiprocessing, 'Pipe', lambda duplex: (Told(), pipe(duplex)[1]))
    (tmp_path / 'train.py').write_text('import time\ntime.sleep(300)\n')
    with pytest.raises(KeyboardInterrupt):
        Fork([str(tmp_path / 'train.py')], tmp_path / 'log', tmp_path, os.environ)
    for process in multiprocessing.active_children():
        process.join(20)
        assert process.exitcode == -signal.SIGKILL


def state_of(pid):
    """State of a process; '' where there is none."""
    try:
        with open(f'/proc/{pid}/stat') as file:
            return file.read().rpartition(')')[2].split()[0]
    except FileNotFoundError:
        return ''


def test_the_environment_of_the_server_is_its_own():
    assert fork.ONE_THREAD.keys() >= {'OMP_NUM_THREADS'}
    code = (
        'import os; from comad.sweep import fork; before = dict(os.environ); '
        'fork._server(); assert os.environ == before'
    )
    paths = dict(PYTHONPATH=os.pathsep.join(sys.path))
    subprocess.run([sys.executable, '-c', code], check=True, env={**os.environ, **paths})
