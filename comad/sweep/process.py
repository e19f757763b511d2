"""A step's subprocess: limited threads, everything it says in a log, gone when the sweep is."""

import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from comad.runs.place import CALLER, FILES
from comad.sweep.fork import ONE_THREAD, Fork, ServerLost, is_current
from comad.sweep.step import Step

POLL_SECONDS = 0.05
GRACE_SECONDS = 10.0
# Tools that import torch.
FORKED = ('train.py', 'weights.py')


class Job:
    """A step that has been started.

    Args:
        step: The step to start.
        command: What it runs.
        root: Folder the command runs in.
        log: File that takes its output; what an earlier attempt said is overwritten.
        inputs: What the step starts from, kept for its stamp.
        forks: Whether it may be a fork of a process that has imported the suite.
    """

    def __init__(
        self,
        step: Step,
        command: Sequence[str],
        root: Path,
        log: Path,
        inputs: dict[str, Any],
        forks: bool = False,
    ) -> None:
        self.step, self.log, self.inputs = step, log, inputs
        self.seconds = self.peak_mb = 0.0
        # Paths of a step are those of the root, wherever the sweep was typed.
        own = {'PYTHONUNBUFFERED': '1', CALLER: str(root), **ONE_THREAD}
        environment, words = {**os.environ, **own}, _executable(command)
        log.parent.mkdir(parents=True, exist_ok=True)
        log.write_text(f'$ {shlex.join(command)}\n')
        self.started = time.monotonic()
        # An own session: a Ctrl-C reaches the sweep alone, which then ends whole groups.
        self.process: Fork | _Command | None = None
        if forks and command[0] == 'python' and Path(command[1]).name in FORKED and is_current():
            module = words[1] == '-m'
            with suppress(ServerLost):  # then like any other
                self.process = Fork(words[1 + module :], log, root, environment, module)
        if self.process is None:
            with log.open('a') as stream:
                self.process = _Command(
                    words,
                    cwd=root,
                    env=environment,
                    stdin=subprocess.DEVNULL,
                    stdout=stream,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,
                )

    def elapsed(self) -> float:
        """Return the seconds since the start."""
        return time.monotonic() - self.started

    def tail(self, lines: int) -> list[str]:
        """Return the last lines of the log."""
        return self.log.read_text(errors='replace').splitlines()[-lines:]


def _executable(command: Sequence[str]) -> list[str]:
    """The command with this interpreter, and with the tools of this checkout or package.

    A training is only run where what an earlier one has left is out of date, or where it goes on.
    """
    if command[0] == 'tools/dist_train.sh':
        code = 'import sys; from comad.commands.distributed import train; sys.exit(train())'
        return [sys.executable, '-c', code, *command[1:]]
    if command[0] != 'python':
        return list(command)
    tool = Path(command[1])
    if tool.name == 'train.py' and '--resume' not in command and '--overwrite' not in command:
        command = [*command, '--overwrite']
    if tool.parent != Path('tools'):
        return [sys.executable, *command[1:]]
    if (FILES / tool).is_file():
        return [sys.executable, str(FILES / tool), *command[2:]]
    return [sys.executable, '-m', f'comad.commands.{tool.stem}', *command[2:]]


class _Command(subprocess.Popen):
    """A process that tells its peak memory when it has ended."""

    peak_mb = 0.0

    def poll(self) -> int | None:
        if self.returncode is None:
            ended, status, usage = os.wait4(self.pid, os.WNOHANG)
            if ended:
                self.returncode = os.waitstatus_to_exitcode(status)
                self.peak_mb = usage.ru_maxrss / 1024
        return self.returncode


def wait_any(jobs: dict[str, Job]) -> Job:
    """Wait until one of the jobs ends, remove it from ``jobs`` and return it."""
    while True:
        for name, job in jobs.items():
            if job.process.poll() is not None:
                job.seconds, job.peak_mb = job.elapsed(), job.process.peak_mb
                return jobs.pop(name)
        time.sleep(POLL_SECONDS)


def terminate(jobs: Iterable[Job], grace: float = GRACE_SECONDS) -> None:
    """End the jobs with everything they started; ask first, insist after ``grace`` seconds."""
    processes = [job.process for job in jobs]
    for process in processes:
        _signal_group(process, signal.SIGTERM)
    deadline = time.monotonic() + grace
    for process in processes:
        with suppress(subprocess.TimeoutExpired):
            process.wait(max(deadline - time.monotonic(), 0.0))
        # Also after a clean end: nothing of the group may outlive the sweep.
        _signal_group(process, signal.SIGKILL)
        process.wait()


def _signal_group(process: subprocess.Popen | Fork, number: int) -> None:
    with suppress(ProcessLookupError):
        os.killpg(process.pid, number)
