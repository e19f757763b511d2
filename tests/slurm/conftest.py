"""One cluster for all tests, and a copy of the launcher with a light training."""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.slurm import cluster as slurm

ROOT = Path(__file__).resolve().parents[2]
# Notes how it was called, then does what is asked for as the real one would: its signals, its
# outcome and its lease are the suite's own.
TRAINING = """
import json, os, signal, sys, time
from pathlib import Path
words, task = sys.argv[1:], os.environ.get('SLURM_PROCID')
work = Path(words[words.index('--work-dir') + 1] if '--work-dir' in words else 'run')
if '--print-work-dir' in words:
    print(work)
    sys.exit()
sys.path.insert(0, {root!r})
from comad.engine.preemption import PREEMPTED, stop_request, tell_outcome
from comad.engine.slurm import place_of_task
stop_request.end_at_once()
work.mkdir(exist_ok=True)
def note(name, text=''):
    with open(work / name, 'a') as file:
        file.write(text + chr(10))
note('calls', ' '.join(words))
gpus = os.environ.get('CUDA_VISIBLE_DEVICES', '')
place = place_of_task(os.environ, len(gpus.split(','))) if gpus else dict()
note('places', json.dumps(dict(place, gpus=gpus)))
if task == '0':
    if (work / 'outcome').exists():
        tell_outcome(int((work / 'outcome').read_text()))
        sys.exit(int((work / 'outcome').read_text()))
if (work / 'starting').exists():
    note('in_start')
    time.sleep(60)
with stop_request.listen():
    note('ready' + task)
    for step in range(600):
        if task == '0' and (work / 'crash').exists():
            os.kill(os.getpid(), signal.SIGKILL)
        if stop_request.signal and not (work / 'deaf').exists():
            time.sleep(0.3)
            note('saved', stop_request.signal)
            if task == '0':
                (work / 'last_checkpoint').write_text(os.urandom(4).hex())
            tell_outcome(PREEMPTED)
            sys.exit(PREEMPTED)
        if (work / 'finish').exists():
            tell_outcome(0)
            sys.exit()
        time.sleep(0.1)
"""


def missing(reason: str) -> None:
    """A missing Slurm is a skip with its reason, or a failure where one is asked for."""
    message = f'no test with Slurm: {reason}; apt install slurm-wlm'
    if os.environ.get('COMAD_NEED_SLURM'):
        pytest.fail(message)
    pytest.skip(message)


@pytest.fixture(scope='session')
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[slurm.Cluster]:
    """Two nodes: n1 with two GPUs, as Slurm believes, and n2 without."""
    if name := slurm.missing():
        missing(f'{name} is not installed')
    made = slurm.Cluster(tmp_path_factory.mktemp('slurm'))
    try:
        made.start()
    except TimeoutError as error:
        made.stop()
        errors = [line for line in str(error).splitlines() if 'error' in line or 'fatal' in line]
        missing(f'it does not start here, {errors[-1:]}')
    yield made
    made.stop()


@dataclass
class Site:
    """The launcher in a repository of its own, whose ``run`` folder says what trainings did."""

    cluster: slurm.Cluster
    root: Path
    settings: dict[str, str] = field(default_factory=dict)

    @property
    def run(self) -> Path:
        return self.root / 'run'

    def start(self, *arguments: str, under: tuple[str, ...] = ()) -> subprocess.Popen:
        """Start the launcher; partition and options are given, job name and config are not."""
        partition, *options = arguments
        first = [word for word in options if word == '--batch']
        rest = [word for word in options if word != '--batch']
        script = str(self.root / 'tools' / 'slurm_train.sh')
        command = [*under, 'bash', script, *first, partition, 'job', 'config.py', *rest]
        return subprocess.Popen(
            command,
            env=self.cluster.variables | self.settings,
            cwd=self.root,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            # A shell leaves it out in the background, and what is left out cannot be trapped.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )

    def ask(self, *arguments: str) -> tuple[int, str]:
        """Exit code and all that a launcher says which ends by itself."""
        process = self.start(*arguments)
        said = process.communicate(timeout=slurm.PATIENCE)
        return process.returncode, ''.join(said)

    def submit(self, *arguments: str) -> str:
        """The number of a batch job."""
        status, said = self.ask(*arguments, '--batch')
        assert status == 0 and said.startswith('Submitted batch job '), said
        return said.split()[-1]

    def set(self, name: str, text: str = '') -> None:
        """Tell the trainings what to do."""
        self.run.mkdir(exist_ok=True)
        (self.run / name).write_text(text)

    def lines(self, name: str) -> list[str]:
        """What trainings have noted."""
        path = self.run / name
        return path.read_text().splitlines() if path.exists() else []

    def wait_for(self, name: str, count: int = 1) -> None:
        self.cluster.wait_for(lambda: len(self.lines(name)) >= count)

    def wait_until(self, job: str, state: str) -> dict[str, str]:
        """What is known of a job once it is in a state."""
        self.cluster.wait_for(lambda: self.cluster.job(job)['JobState'] == state)
        return self.cluster.job(job)

    def wait_for_requeue(self, job: str, times: int = 1) -> None:
        """Wait until a job has been queued again so often."""
        self.cluster.wait_for(
            lambda: (
                (found := self.cluster.job(job))['JobState'] == 'PENDING'
                and found['Restarts'] == str(times)
            )
        )

    def release(self, job: str) -> None:
        """Start a job that has been queued again, which Slurm lets wait for two minutes."""
        self.wait_for_requeue(job)
        time.sleep(2)  # what a node may start is told by the second: not within the one of the end
        self.cluster.say('scontrol', 'update', f'JobId={job}', 'StartTime=now')
        self.cluster.wait_for(lambda: self.cluster.job(job)['JobState'] != 'PENDING')

    def log(self, job: str) -> str:
        return (self.root / f'slurm-{job}.out').read_text()


@pytest.fixture
def site(cluster: slurm.Cluster, tmp_path: Path) -> Iterator[Site]:
    """Settings for one task without GPUs, and nothing of it left afterwards."""
    shutil.copytree(ROOT / 'tools', tmp_path / 'tools')
    (tmp_path / 'comad' / 'engine').mkdir(parents=True)
    shutil.copy(ROOT / 'comad/engine/preemption.py', tmp_path / 'comad/engine/preemption.py')
    (tmp_path / 'config.py').touch()
    (tmp_path / 'training.py').write_text(TRAINING.format(root=str(ROOT)))
    python = tmp_path / 'venv' / 'bin' / 'python'
    python.parent.mkdir(parents=True)
    python.write_text(
        f'#!/bin/bash\n[[ $1 != -u ]] || shift\nshift\n'
        f'exec {sys.executable} {tmp_path}/training.py "$@"\n'
    )
    python.chmod(0o755)
    made = Site(cluster, tmp_path, {'COMAD_VENV': str(tmp_path / 'venv'), 'CPUS_PER_TASK': '1'})
    yield made
    cluster.say('scancel', '--full', '--signal=KILL', '--name=job')
    cluster.say('scancel', '--name=job')
    cluster.wait_for(lambda: not cluster.say('squeue', '-h', '--name=job'))
