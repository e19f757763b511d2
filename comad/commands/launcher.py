"""From "this config on N GPUs" to the process that does it; nothing here imports torch.

Several processes run under torchrun, NCCL on GPUs, gloo on the CPU. Environment, as in OpenMMLab's
tools: NNODES (1), NODE_RANK (0), MASTER_ADDR (127.0.0.1), PORT (a free one; with several nodes
29500), OMP_NUM_THREADS (cores / N).
"""

import os
import shlex
import shutil
import socket
import subprocess
import sys
from pathlib import Path
from typing import NoReturn

import comad
from comad.engine.slurm import is_known

SEVERAL_NODES_PORT = 29500


class LaunchError(ValueError):
    """A launch that cannot work; the message is one line."""


def need_count(name: str, value: str | int, minimum: int = 1) -> int:
    """``value`` as a whole number.

    Raises:
        LaunchError: It is none, or below ``minimum``.
    """
    text = str(value)
    # No sign, no leading zero: '08' is a typing error.
    if text.isascii() and text.isdigit() and str(int(text)) == text and int(text) >= minimum:
        return int(text)
    raise LaunchError(f'{name} is {text!r}; a whole number of at least {minimum} is needed')


def gpu_count() -> int:
    """The NVIDIA GPUs that this process may use."""
    if shutil.which('nvidia-smi') is None:
        return 0
    listed = subprocess.run(['nvidia-smi', '-L'], capture_output=True, text=True, check=False)
    here = sum(line.startswith('GPU ') for line in listed.stdout.splitlines())
    chosen = os.environ.get('CUDA_VISIBLE_DEVICES')
    if chosen is None or not here:
        return here
    return 0 if chosen in ('', '-1') else len(chosen.split(','))


def usable_cores() -> int:
    """The CPU cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, 'sched_getaffinity') else os.cpu_count() or 1


def in_processes(count: str | int, command: str, arguments: list[str]) -> list[str]:
    """The call of ``comad-<command>`` in ``count`` processes on each node.

    Cores are shared out in the environment, unless the user has set OMP_NUM_THREADS.

    Raises:
        LaunchError: A number that is none, or more GPUs than there are.
    """
    count = need_count('the number of GPUs (or CPU processes)', count)
    nodes = need_count('NNODES', os.environ.get('NNODES', 1))
    rank = need_count('NODE_RANK', os.environ.get('NODE_RANK', 0), 0)
    if 0 < gpu_count() < count:
        raise LaunchError(f'{count} GPUs asked for, {gpu_count()} here')
    # Several nodes have to agree on the port, so nothing can be chosen here.
    port = os.environ.get('PORT') or (SEVERAL_NODES_PORT if nodes > 1 else _free_port())
    port = need_count('PORT', port)
    if rank == 0 and not _is_free(port):
        raise LaunchError(f'PORT is {port}, which is in use on this machine; choose another one')
    address = os.environ.get('MASTER_ADDR', '127.0.0.1')
    if not is_known(address):
        raise LaunchError(f'MASTER_ADDR is {address}, which is no machine that is known here')
    os.environ.setdefault('OMP_NUM_THREADS', str(max(1, usable_cores() // count)))
    torchrun = [
        f'--nnodes={nodes}',
        f'--node_rank={rank}',
        f'--master_addr={address}',
        f'--master_port={port}',
        f'--nproc_per_node={count}',
    ]
    module = ['-m', f'comad.commands.{command}', *arguments, '--launcher', 'pytorch']
    return [sys.executable, '-m', 'comad.commands.torchrun', *torchrun, *module]


def in_one_process(command: str, arguments: list[str]) -> list[str]:
    """The call of ``comad-<command>`` in one process."""
    return [sys.executable, '-m', f'comad.commands.{command}', *arguments]


def become(command: list[str], dry_run: bool = False) -> NoReturn:
    """Replace this process by ``command``; with ``dry_run`` only print it."""
    if dry_run:
        threads = os.environ.get('OMP_NUM_THREADS')
        print(*([f'OMP_NUM_THREADS={threads}'] if threads else []), shlex.join(command))
        sys.exit()
    # The code that is running now is what the new process runs, installed or not.
    source = str(Path(comad.__file__).resolve().parents[1])
    paths = [source, *filter(None, os.environ.get('PYTHONPATH', '').split(os.pathsep))]
    os.environ['PYTHONPATH'] = os.pathsep.join(dict.fromkeys(paths))
    os.execv(command[0], command)


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        # As the rendezvous does: a port that is only waiting to be closed can be used.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(('', port))
        except (OSError, OverflowError):
            return False
    return True


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(('127.0.0.1', 0))
        return probe.getsockname()[1]
