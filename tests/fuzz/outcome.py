"""One case from its number to its judgement."""

import contextlib
import io
import random
import re
import shutil
import sys
import traceback
from abc import ABC, abstractmethod
from collections.abc import Callable
from pathlib import Path

from backbones.checkpoints import CheckpointError
from comad.data.faults import UnreadableData
from comad.engine.options import ConfigError

# What is raised on purpose for what users bring.
REFUSALS = (ConfigError, CheckpointError, UnreadableData, ValueError, OSError)
ADDRESS = re.compile(r'0x[0-9a-f]{6,}')
STARTED = (
    'subprocess.Popen',
    'os.system',
    'os.exec',
    'os.posix_spawn',
    'os.fork',
    'socket.connect',
)
SHORTEST, LONGEST = 20, 1200  # characters of a message
SHOWN = 300
MARK = 'executed'  # a file that hostile input would write

_watched: list[str] | None = None


class Kind(ABC):
    """Cases of one kind.

    Args:
        folder: For what all cases share; each case has its own below.
    """

    name: str

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)

    @abstractmethod
    def prepare(self, draw: random.Random, case: Path) -> tuple[str, Callable[[], None]]:
        """Write a mutated copy into ``case``; what was done, in words, and what is then tried.

        What is tried raises a refusal, whose message names something of ``case``, or nothing.
        """

    def check(self, case: Path, error: BaseException | None) -> str | None:
        """What else is wrong after a case."""
        if left := [path.name for path in case.rglob('.*.tmp')]:
            return f'half-written {left[0]}'
        return f'{MARK} was written' if (case / MARK).exists() else None

    def names(self, text: str, case: Path) -> bool:
        """Whether a refusal says what it is about."""
        return ' '.join(str(case).split()) in text


def judge(kind: Kind, seed: int, number: int, loud: bool = False) -> tuple[str, str | None]:
    """``success``, ``refused`` or ``fault``, and the fault in a line."""
    global _watched
    draw = random.Random(f'{seed} {kind.name} {number}')
    case = kind.folder / f'case{number}'
    case.mkdir()
    error: BaseException | None = None
    try:
        words, attempt = kind.prepare(draw, case)
        _watched = started = []
        try:
            with contextlib.redirect_stdout(io.StringIO()):
                attempt()
        except (Exception, SystemExit) as caught:
            error = caught
        finally:
            _watched = None
        if loud and error:
            traceback.print_exception(error)
        fault = _fault_of(kind, error, case) or kind.check(case, error)
        fault = fault or (f'started {started[0]}' if started else None)
        if fault:
            return 'fault', f'{words}: {fault}'[:SHOWN]
        return 'refused' if error else 'success', None
    finally:
        shutil.rmtree(case, ignore_errors=True)


def _fault_of(kind: Kind, error: BaseException | None, case: Path) -> str | None:
    if error is None:
        return None
    # Whoever prints it joins the lines: a file's name may hold any character.
    text, what = ' '.join(str(error).split()), type(error).__name__
    if not isinstance(error, REFUSALS):
        frame = traceback.extract_tb(error.__traceback__)[-1]
        return f'{what}: {text} ({frame.filename}, line {frame.lineno})'
    for wrong, is_so in (
        ('a traceback', 'Traceback' in text),
        ('no message', len(text) < SHORTEST),
        ('a page', len(text) > LONGEST),
        ('an address', ADDRESS.search(text) is not None),
        ('nothing named', not kind.names(text, case)),
    ):
        if is_so:
            return f'{wrong}: {what}: {text!r}'
    return None


def _watch(event: str, arguments: tuple) -> None:
    if _watched is not None and event in STARTED:
        _watched.append(f'{event} {arguments[0]!r:.60}')


sys.addaudithook(_watch)
