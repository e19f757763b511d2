"""Programs in processes of their own, without their imports' seconds.

`start` does what ``python FILE ...`` or ``python -m MODULE ...`` does, in a fork of a server that
has imported the suite: standard library's forkserver. The tests of --help, of the first look and of
the shell scripts start Python itself.
"""

import atexit
import contextlib
import functools
import multiprocessing
import os
import runpy
import signal
import socket
import sys
import time
from collections.abc import Iterator
from multiprocessing import forkserver
from pathlib import Path
from typing import Any

import pytest

HANGS = 300  # seconds after which a process has stopped for good, however busy the machine is
ROOT = Path(__file__).resolve().parents[1]


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
    context = _server()
    words = [str(argument) for argument in arguments]
    variables = {**os.environ, **environment}
    process = context.Process(target=_run, args=(words, str(log), str(cwd), module, variables))
    log.touch()
    process.start()
    return Program(process, log)


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

    def __init__(self, process: Any, log: Path) -> None:
        self.process, self.log, self.pid = process, log, process.pid

    def text(self) -> str:
        """Everything said so far."""
        return self.log.read_text()

    def wait_for(self, what: str, seconds: float = HANGS) -> 'Program':
        """Wait until it has said ``what``; a test fails if it ends before."""
        end = time.monotonic() + seconds
        while what not in self.text():
            if self.process.exitcode is not None or time.monotonic() > end:
                self.process.kill()
                pytest.fail(self.text()[-3000:])
            time.sleep(0.05)
        return self

    def end(self, seconds: float = HANGS) -> int | None:
        """Its exit code, negative for a signal; whoever hangs is killed with its group."""
        self.process.join(seconds)
        if self.process.exitcode is None:
            os.killpg(self.pid, signal.SIGKILL)
        return self.process.exitcode


@functools.cache
def _server() -> Any:
    """Start the server; only its environment tells it where the project is."""
    context = multiprocessing.get_context('forkserver')
    context.set_forkserver_preload(['tests.preloaded'])
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv('OMP_NUM_THREADS', '1')
        patch.setenv('PYTHONPATH', str(ROOT), prepend=os.pathsep)
        forkserver.ensure_running()
    return context


def _run(words: list[str], log: str, cwd: str, module: bool, environment: dict[str, str]) -> None:
    os.setsid()
    output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(output, 1)
    os.dup2(output, 2)
    sys.stdout.reconfigure(line_buffering=True)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.environ.clear()
    os.environ.update(environment)
    multiprocessing.current_process().name = 'MainProcess'
    os.chdir(cwd)
    sys.argv = words
    try:
        if module:
            runpy.run_module(words[0], run_name='__main__', alter_sys=True)
        else:
            runpy.run_path(words[0], run_name='__main__')
    finally:
        atexit._run_exitfuncs()  # multiprocessing ends a process without them
