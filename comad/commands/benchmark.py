"""Measure how fast training steps, data loading and tables are on this machine."""

import argparse
import sys

from backbones.files import one_line
from comad.benchmark import data, step, tables
from comad.benchmark.suite import command as suite
from comad.benchmark.suite import show
from comad.commands.command import command
from comad.commands.data import Progress
from comad.runs.place import enter_home, worded

EXAMPLES = """examples:
  python tools/benchmark.py suite --minutes 8; python tools/benchmark.py show
  python tools/benchmark.py step pretrain_configs/comad_tiny.py --batch 8 --compare reference
  python tools/benchmark.py step pretrain_configs/comad_tiny.py --device cuda --compile
  python tools/benchmark.py step seg_configs/upernet_comad_tiny.py --batch 2 --compare reference
  python tools/benchmark.py step distill_configs/imagenet_fbt_swin_tiny_resnet18.py --compare kd
  python tools/benchmark.py data --compare imagefolder
  python tools/benchmark.py tables

Everything that is compared takes turns in one process, so that a busy machine slows all of it.
Ratios mean something on any machine; images per second describe the one they were measured on.
Neither data nor weights are needed: weights and images are made up.
"""


COMMANDS = {
    'suite': (suite, 'all that matters on this machine, in minutes, into one file'),
    'show': (show, "tables of suites' files"),
    'step': (step, "images/s of a config's training step, part by part"),
    'data': (data, 'images/s that folders and shards deliver'),
    'tables': (tables, 'seconds of the leaderboard with 1,000 records'),
}


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    style = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=worded(EXAMPLES), formatter_class=style
    )
    commands = parser.add_subparsers(dest='command', required=True, metavar='COMMAND')
    for name, (module, short) in COMMANDS.items():
        command = commands.add_parser(name, help=short, description=module.__doc__)
        module.add_arguments(command)
    return parser.parse_args(argv)


@command
def main(argv: list[str] | None = None) -> int:
    args = parse_args(argv)
    enter_home()
    try:
        if args.command == 'step':
            return step.run(args, Progress('turns'))
        return COMMANDS[args.command][0].run(args)
    except (OSError, RuntimeError, ValueError) as error:
        print(f'benchmark {args.command}: {one_line(error)}', file=sys.stderr)
        return 2


if __name__ == '__main__':
    sys.exit(main())
