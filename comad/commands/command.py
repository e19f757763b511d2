"""What every command shares: how its process ends, who reads what it prints, refused counts."""

import argparse
import atexit
import functools
import io
import os
import sys
import traceback
from collections.abc import Callable

from comad.engine.preemption import in_several_processes
from comad.runs.place import home

Main = Callable[[list[str] | None], int | None]


def command(main: Main) -> Main:
    """Decorate a ``main``; called without arguments, as from a shell, it is all of its process.

    What is printed to a pipe that nobody reads any more (``| head``) is dropped, and the work goes
    on. One of several processes ends without the interpreter's own ending, in which threads of
    torch's process groups can abort it, long after all has been written.
    """

    @functools.wraps(main)
    def started(argv: list[str] | None = None) -> int | None:
        try:
            home()
        except NotADirectoryError as error:
            sys.stderr.write(f'error: {error}\n')
            raise SystemExit(2) from None
        if argv is not None:
            return main(argv)
        sys.stdout = _patient(sys.stdout)
        if not in_several_processes():
            return main(None)
        try:
            status = main(None) or 0
        except SystemExit as end:
            status = end.code if isinstance(end.code, int) else int(end.code is not None)
        except BaseException:
            traceback.print_exc()
            status = 1
        atexit._run_exitfuncs()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)

    return started


def check_counts(parser: argparse.ArgumentParser, args: argparse.Namespace, *names: str) -> None:
    """Refuse options below 1 by name and value; those that were not given are left alone."""
    for name in names:
        if (number := getattr(args, name, None)) is not None and number < 1:
            parser.error(f'--{name} {number}: expected 1 or more')


class _Unread(io.RawIOBase):
    """Standard output that takes everything, also when its reader has left."""

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        return 1

    def isatty(self) -> bool:
        return os.isatty(1)

    def write(self, content: bytes) -> int:
        try:
            return os.write(1, content)
        except BrokenPipeError:
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, 1)  # also for the processes that it starts
            os.close(nowhere)
            return len(content)


def _patient(stream: io.TextIOWrapper) -> io.TextIOWrapper:
    stream.flush()
    return io.TextIOWrapper(
        io.BufferedWriter(_Unread()),
        encoding=stream.encoding,
        errors=stream.errors,
        line_buffering=stream.isatty(),
    )
