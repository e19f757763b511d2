"""Pretrain a student with a method, on all GPUs here, else on the CPU."""

import argparse
import os
import sys
from pathlib import Path
from textwrap import fill

from backbones.names import meant
from comad.commands.launcher import (
    LaunchError,
    become,
    gpu_count,
    in_one_process,
    in_processes,
    need_count,
)
from comad.engine.options import ConfigError, add_track, run_options
from comad.runs.place import FILES, enter_home, get_track, seen_from_home, worded
from comad.runs.track import Track
from comad.sweep.step import SweepError

EPILOG = """examples:
  tools/pretrain.sh comad                  # ImageNet, all GPUs
  tools/pretrain.sh comad --sample         # the embedded data, minutes on a CPU
  tools/pretrain.sh mae_base --gpus 4      # METHOD may name another size than tiny

With --sample, images or clips that are missing are written first.
All other options are those of training, `python tools/train.py --help`. CUDA_VISIBLE_DEVICES
chooses the GPUs. SIGTERM, SIGUSR1 or Ctrl-C saves after the current step and ends with exit code
75; the same command with --resume goes on.

"""


def methods() -> list[str]:
    """All methods; those of the default size without their ``_tiny``."""
    names = (path.stem for path in (FILES / 'pretrain_configs').glob('*.py'))
    return sorted(name.removesuffix('_tiny') for name in names)


def find_method(name: str) -> str:
    """The config of a method.

    Raises:
        LaunchError: There is none of that name.
    """
    for stem in (f'{name}_tiny', name, f'{name}_small'):  # networks on video begin with small
        path = FILES / 'pretrain_configs' / f'{stem}.py'
        if path.parent.name == 'pretrain_configs' and '/' not in name and path.is_file():
            return seen_from_home(path)
    raise LaunchError(f'no method {name!r}{meant(name, methods())}; one of: {" ".join(methods())}')


def parse_args(argv: list[str] | None) -> tuple[argparse.Namespace, list[str]]:
    parser = argparse.ArgumentParser(
        prog=Path(worded('tools/pretrain.sh')).name,
        description=__doc__,
        epilog=worded(EPILOG) + fill(f'methods: {" ".join(methods())}', 98),
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument('method', metavar='METHOD', nargs='?', help='one of those below')
    parser.add_argument(
        '--gpus',
        metavar='N',
        help='0 is the CPU; default: all, or one with --sample, whose batches suit one',
    )
    parser.add_argument('--dry-run', action='store_true', help='print the command, do not run it')
    return parser.parse_known_args(argv)


def typed_track(arguments: list[str]) -> Track:
    """The track that the options of a training name."""
    parser = argparse.ArgumentParser(allow_abbrev=False, add_help=False)
    add_track(parser)
    return get_track(parser.parse_known_args(arguments)[0].track)


def command_for(arguments: list[str], wanted: str | None) -> list[str]:
    """The call of training with these arguments on the GPUs that are wanted.

    Args:
        wanted: What ``--gpus`` says; None: all here, or one with ``--sample``.

    Raises:
        LaunchError: More GPUs than there are.
    """
    if wanted == '0':
        os.environ['CUDA_VISIBLE_DEVICES'] = ''
    here = gpu_count()
    gpus = here if wanted is None else need_count('--gpus', wanted, 0)
    if wanted is None and typed_track(arguments).stand_ins:
        gpus = min(here, 1)
    if gpus > here:
        raise LaunchError(f'--gpus {gpus}, but {here} here; --gpus 0 is the CPU')
    if gpus > 1:
        return in_processes(gpus, 'train', arguments)
    return in_one_process('train', arguments)


def _make_missing(arguments: list[str]) -> int:
    """Write the sample that a training reads, if it is not there; returns an exit status."""
    from comad.commands import train
    from comad.commands.made_first import make, missing_data
    from comad.engine.run_config import load_run_config

    options = run_options(trained := train.parse_args(arguments))
    if trained.print_work_dir:
        return 0
    missing = missing_data(load_run_config(options, check=False))
    return make(missing, 'pretrain') if missing else 0


def main(argv: list[str] | None = None) -> int:
    args, others = parse_args(argv)
    enter_home()
    try:
        if args.method is None or args.method.startswith('-'):
            raise LaunchError(f'METHOD is missing; one of: {" ".join(methods())}')
        config = find_method(args.method)
        command = command_for([config, *others], args.gpus)
        if typed_track(others).stand_ins and not args.dry_run:
            status = _make_missing([config, *others])
            if status:
                return status
    except (ConfigError, LaunchError, SweepError) as error:
        print(f'error: {error}', file=sys.stderr)
        return 2
    become(command, args.dry_run)


if __name__ == '__main__':
    sys.exit(main())
