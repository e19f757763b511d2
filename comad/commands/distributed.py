"""Train or test a config in several processes: one per GPU, or without GPUs one per CPU share."""

import os
import sys

from comad.commands import launcher
from comad.commands.launcher import LaunchError, become, in_processes
from comad.runs.place import enter_home, find_config, typed, worded

TRAIN = """usage: tools/dist_train.sh CONFIG N [train.py arguments]

Train a config in several processes: one per GPU, or on a machine without GPUs one per CPU share.

  tools/dist_train.sh seg_configs/upernet_comad_tiny.py 8
  tools/dist_train.sh seg_configs/upernet_comad_tiny.py 2 --sample

--dry-run prints the command instead of running it; `python tools/train.py --help` lists the other
arguments. SIGTERM, SIGUSR1 or Ctrl-C saves after the current step and ends with exit code 75; the
same command with --resume goes on."""
TEST = """usage: tools/dist_test.sh CONFIG CHECKPOINT N [test.py arguments]

Test a checkpoint in several processes: one per GPU, or without GPUs one per CPU share.

  tools/dist_test.sh seg_configs/upernet_comad_tiny.py RUN/iter_160000.pth 8

--dry-run prints the command instead of running it; `python tools/test.py --help` lists the other
arguments."""


def train(argv: list[str] | None = None) -> int:
    """``comad-dist-train``."""
    return _run('train', TRAIN, 1, argv)


def test(argv: list[str] | None = None) -> int:
    """``comad-dist-test``."""
    return _run('test', TEST, 2, argv)


def _run(command: str, usage: str, files: int, argv: list[str] | None) -> int:
    """The files come first, then the number of processes; all else is the command's own."""
    words = sys.argv[1:] if argv is None else list(argv)
    if {'-h', '--help'} & set(words):
        print(
            worded(f'{usage}\n\n{(launcher.__doc__ or "").partition("imports torch.")[2].strip()}')
        )
        return 0
    dry_run = '--dry-run' in words
    words = [word for word in words if word != '--dry-run']
    try:
        if len(words) <= files:
            raise LaunchError(f'{worded(usage.splitlines()[0])}; --help says more')
        places = [find_config(words[0]), *map(typed, words[1:files])]
        enter_home()
        for given, place in zip(words, places, strict=False):
            if not os.path.exists(place):
                raise LaunchError(f'{given} not found, neither from where you are nor from here')
        become(in_processes(words[files], command, [*places, *words[files + 1 :]]), dry_run)
    except LaunchError as error:
        print(f'error: {error}', file=sys.stderr)
        return 2
