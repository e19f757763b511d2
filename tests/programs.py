"""Programs in processes of their own, forks of one that has imported the suite.

The tests of --help, of the first look and of the shell scripts start Python itself.
"""

import contextlib
import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from comad.sweep.fork import Fork

HANGS = 300  # seconds after which a process has stopped for good, however busy the machine is


def start(
    log: Path, *arguments: object, cwd: str | Path = '.', module: bool = False, **environment: str
) -> 'Program':
    """Start a program whose output goes to the end of ``log``.

    Args:
        log: file of standard output and error.
        arguments: the program, a file or a module, and its arguments.
        cwd: where it runs.
        module: whether the program is a module.
        environment: variables beside those of this process.
    """
    log.touch()
    words = [str(argument) for argument in arguments]
    return Program(Fork(words, log, Path(cwd), {**os.environ, **environment}, module), log)


@contextlib.contextmanager
def free_port() -> Iterator[tuple[int, socket.socket]]:
    """A port of this machine that nobody had, and the socket that listens there meanwhile."""
    with socket.socket() as listening:
        listening.bind(('127.0.0.1', 0))
        listening.listen()
        yield listening.getsockname()[1], listening


def run_group(log: Path, processes: int, *arguments: object, **options: Any) -> str:
    """Run what torchrun would start on one machine; what all processes said, if they end well."""
    with free_port() as (port, _):
        pass
    place = dict(MASTER_ADDR='127.0.0.1', MASTER_PORT=str(port), WORLD_SIZE=str(processes))
    place |= dict(LOCAL_WORLD_SIZE=str(processes))
    group = [
        start(
            log.with_name(f'{log.name}{rank}'),
            *arguments,
            RANK=str(rank),
            LOCAL_RANK=str(rank),
            **place,
            **options,
        )
        for rank in range(processes)
    ]
    for program in group:
        assert program.end() == 0, ''.join(program.text()[-3000:] for program in group)
    return ''.join(program.text() for program in group)


def run(*arguments: object, log: Path, **options: Any) -> 'Program':
    """Start a program and wait for it to end well."""
    program = start(log, *arguments, **options)
    assert program.end() == 0, program.text()[-3000:]
    return program


class Program:
    """A started program, its process group and what it has said."""

    def __init__(self, process: Fork, log: Path) -> None:
        self.process, self.log, self.pid = process, log, process.pid

    def text(self) -> str:
        """Everything said so far."""
        return self.log.read_text()

    def wait_for(self, what: str, seconds: float = HANGS) -> 'Program':
        """Wait until it has said ``what``; a test fails if it ends before."""
        end = time.monotonic() + seconds
        while what not in self.text():
            if self.process.poll() is not None or time.monotonic() > end:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(self.pid, signal.SIGKILL)
                pytest.fail(self.text()[-3000:])
            time.sleep(0.05)
        return self

    def end(self, seconds: float = HANGS) -> int | None:
        """Its exit code, negative for a signal; whoever hangs is killed with its group."""
        try:
            return self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            os.killpg(self.pid, signal.SIGKILL)
            return None
