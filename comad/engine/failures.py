"""Failures of a running training that one line explains better than a traceback."""

import errno
import os
import re
import socket
import traceback
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from backbones.checkpoints import CheckpointError
from comad.data.faults import UnreadableData

OUT_OF_MEMORY = re.compile(
    r'out of memory|DefaultCPUAllocator: can.t allocate memory|Cannot allocate memory', re.I
)
SHARED_MEMORY = re.compile(r'shared memory|\bshm\b|/torch_\d+|Bus error', re.I)
DEAD_WORKER = re.compile(r'DataLoader worker \(pid\(?s?\)? ?[^)]*\) (exited|is killed)')
LOST_PROCESS = re.compile(
    r'Connection (closed by|reset by) peer|\[.*gloo.*\].*closed'
    r'|NCCL.*(remote process|network error)',
    re.I,
)
# Of gloo's operations and of the meeting at the start.
TIMED_OUT = re.compile(
    r'(timed out (waiting|after)|wait timeout after) \d+ms|Application timeout caused', re.I
)
# Our packages, which lie side by side.
OURS = tuple(str(Path(__file__).resolve().parents[2] / name) for name in ('comad', 'backbones'))
GONE = (errno.EIO, errno.ESTALE, errno.ENOTCONN, errno.ENODEV, errno.ENXIO, errno.EROFS)


class RunStopped(RuntimeError):
    """The run stops for a reason that its message says in one line.

    Args:
        agreed: Whether every process stops with the same message, so that the first one says it.
    """

    def __init__(self, message: str, agreed: bool = False) -> None:
        super().__init__(message)
        self.agreed = agreed


class Passing(str):
    """A line about a failure of the machine's kind, which may be over at the next start."""


def explain(error: BaseException, runner: Any) -> str | None:
    """One line about a known failure, with what would help; None for anything else.

    It is `Passing` where the same command may go well.
    """
    text = ' '.join(str(error).split())
    if isinstance(error, (RunStopped, CheckpointError)):
        return text
    if isinstance(error, UnreadableData):
        return _from_worker(error)
    if DEAD_WORKER.search(text):
        return Passing(_dead_worker(text))
    if isinstance(error, MemoryError) or OUT_OF_MEMORY.search(text):
        return _out_of_memory(runner)
    if not isinstance(error, (OSError, RuntimeError)):
        return None
    number = getattr(error, 'errno', None)
    if number == errno.ENOSPC or 'No space left on device' in text:
        work_dir = getattr(runner, 'work_dir', '--work-dir')
        return f'{text}: free space on that disk (work dir: {work_dir}), go on with --resume'
    if number in (errno.EMFILE, errno.ENFILE) or 'Too many open files' in text:
        return 'too many open files: raise the limit (ulimit -n 65536) or lower num_workers'
    if SHARED_MEMORY.search(text):
        return _no_shared_memory(text)
    if number in GONE:
        return Passing(f'{text}: is the disk still there? Go on with --resume')
    started = getattr(runner, 'phase', '') != 'start' and runner is not None
    if started and (isinstance(error, FileNotFoundError) or 'FileNotFoundError: ' in str(error)):
        return Passing(f'{_from_worker(error)}: a file or folder is gone; go on with --resume')
    if 'EADDRINUSE' in text:
        port, host = os.environ.get('MASTER_PORT'), socket.gethostname()
        return Passing(f'port {port} is in use on {host}: set PORT to another one')
    if TIMED_OUT.search(text):
        return Passing(
            'another process has not answered in time (env_cfg.dist_cfg.timeout): it hangs, or its '
            'machine is gone; go on with --resume'
        )
    if LOST_PROCESS.search(text):
        return Passing(
            'the connection to another process broke: it says why, unless it was killed, as for '
            'want of memory; go on with --resume'
        )
    return None


def raised_on_purpose(error: BaseException) -> bool:
    """Whether our code raises a ValueError, its way of refusing data, also in a data worker."""
    text = str(error)
    if 'Original Traceback' in text:
        files = re.findall(r'^ +File "(.+)", line \d+.*\n +(.*)$', text, re.M)
        place, line = files[-1] if files else ('', '')
        kind = text.strip().splitlines()[-1].partition(':')[0]
    else:
        frames = traceback.extract_tb(error.__traceback__)
        place, line = (frames[-1].filename, frames[-1].line or '') if frames else ('', '')
        kind = type(error).__name__ if isinstance(error, ValueError) else ''
    return kind == 'ValueError' and place.startswith(OURS) and line.startswith('raise ')


def place_of(error: BaseException, config: Any) -> tuple[str, str]:
    """What of a config was being built when an error was raised: key, and ``key (type)``."""
    built = None
    for frame, _ in traceback.walk_tb(error.__traceback__):
        if frame.f_code.co_name.startswith('build_') and frame.f_code.co_name.endswith('_from_cfg'):
            given = frame.f_locals.get('cfg')
            built = given if isinstance(given, Mapping) and 'type' in given else built
    if built is None:
        return '', ''
    kind = built['type'] if isinstance(built['type'], str) else built['type'].__name__
    content = config._cfg_dict.to_dict() if config is not None else {}
    keys = [key for key, node in _typed(content) if _same(node, built)]
    return (keys[0], f'{keys[0]} ({kind})') if keys else ('', kind)


def _typed(node: Any, key: str = '') -> Iterator[tuple[str, Mapping[str, Any]]]:
    if isinstance(node, Mapping):
        if key and 'type' in node:
            yield key, node
        for name, value in node.items():
            yield from _typed(value, f'{key}.{name}' if key else str(name))
    elif isinstance(node, (list, tuple)):
        for number, value in enumerate(node):
            yield from _typed(value, f'{key}.{number}')


def _same(node: Mapping[str, Any], built: Mapping[str, Any]) -> bool:
    """Whether something was built from a part of a config; whoever builds it may have added."""
    try:
        return all(bool(built.get(name) == value) for name, value in node.items())
    except (TypeError, ValueError):
        return False


def _from_worker(error: BaseException) -> str:
    """The message proper where a data worker's traceback was put around it."""
    last = str(error).strip().splitlines()[-1] if 'Traceback' in str(error) else str(error)
    last = re.sub(r'^[\w.]*(Error|Data): ', '', last)
    return ' '.join(last.split())


def _dead_worker(text: str) -> str:
    if re.search(r'Bus error|shared memory|shm', text):
        return _no_shared_memory(text)
    found = re.search(r'pid\(?s?\)? ?([\d, ]+)', text)
    return (
        f'data worker {found[1].strip() if found else ""} ended unexpectedly, most often killed '
        'because memory ran out: lower train_dataloader.num_workers, look at /dev/shm (df -h) and '
        'the kernel log, go on with --resume'
    )


def _no_shared_memory(text: str) -> str:
    return (
        'a data worker found no room in shared memory: enlarge /dev/shm (docker: --shm-size=8g), '
        'or lower train_dataloader.num_workers or batch_size; go on with --resume'
    )


def _out_of_memory(runner: Any) -> str:
    if runner is None:
        return 'out of memory before the model was built: is something else running here?'
    training = runner._train_loop is not None and runner.cfg.get('train_cfg') is not None
    batch = (runner.cfg.get('train_dataloader') or {}).get('batch_size') if training else None
    if not batch:
        return (
            'out of memory: use a smaller val_dataloader.batch_size or test_dataloader.batch_size'
        )
    step = getattr(runner._train_loop, 'iter', None)
    if batch == 1:
        return f'out of memory in step {step} with batch 1: use smaller images or another device'
    divisor = next(n for n in (2, 3, 5, 7, batch) if batch % n == 0)
    accumulated = divisor * runner.cfg.optim_wrapper.get('accumulative_counts', 1)
    return (
        f'out of memory in step {step} with batch {batch} per process: '
        f'--cfg-options train_dataloader.batch_size={batch // divisor} --accumulate {accumulated} '
        'keeps the recipe with less memory; --amp helps on GPUs'
    )
