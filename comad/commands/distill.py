"""Distil a classifier with labels, on all GPUs here, else on the CPU."""

import argparse
import ast
import shlex
import sys
from dataclasses import replace
from pathlib import Path
from textwrap import fill

from backbones.names import meant
from backbones.staged_table import NETWORKS
from comad.commands import train
from comad.commands.launcher import LaunchError, become
from comad.commands.made_first import make, missing_data
from comad.commands.pretrain import command_for, typed_track
from comad.engine.distillation import ALONE, DISTILL, TABLE, recipe_leaf
from comad.engine.options import ConfigError, run_options
from comad.engine.run_config import load_run_config
from comad.runs.place import FILES, enter_home, seen_from_home, worded
from comad.runs.track import SAMPLE
from comad.sweep.distillation import teacher_step
from comad.sweep.step import Step, SweepError
from comad.tasks.task import tasks_of_folder

EPILOG = """examples:
  tools/distill.sh fbt cifar100 swin_tiny resnet18             # all GPUs
  tools/distill.sh fbt cifar100 swin_tiny resnet18 --sample    # the embedded data, on a CPU
  tools/distill.sh plain cifar100 resnet18 --sample            # the student alone, or a teacher

With --sample, images and a teacher that are missing are made first; how long that takes is said.
All other options are those of training, `python tools/train.py --help`. SIGTERM, SIGUSR1 or Ctrl-C
saves after the current step and ends with exit code 75; the same command with --resume goes on.

"""


def methods() -> list[str]:
    """Names of the methods, read from their table without running it."""
    for node in ast.parse((FILES / TABLE).read_text(encoding='utf-8')).body:
        if isinstance(node, ast.Assign) and node.targets[0].id == 'methods':
            return [keyword.arg for keyword in node.value.keywords]
    return []


def parse_args(argv: list[str] | None) -> tuple[argparse.Namespace, list[str]]:
    data = ' or '.join(task.kind for task in tasks_of_folder(DISTILL))
    parser = argparse.ArgumentParser(
        prog=Path(worded('tools/distill.sh')).name,
        description=__doc__,
        epilog=worded(EPILOG)
        + fill(f'methods: {" ".join(methods())}', 98)
        + '\n'
        + fill(f'networks: {" ".join(NETWORKS)}', 98),
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
        usage='%(prog)s METHOD DATA [TEACHER] STUDENT [options]',
    )
    parser.add_argument('names', metavar='METHOD DATA TEACHER STUDENT', nargs='*', help=data)
    parser.add_argument(
        '--gpus',
        metavar='N',
        help='0 is the CPU; default: all, or one with --sample, whose batches suit one',
    )
    parser.add_argument('--dry-run', action='store_true', help='print the command, do not run it')
    return parser.parse_known_args(argv)


def find_run(names: list[str]) -> list[str]:
    """The leaf, and ``--student`` where it is not the leaf's own pair.

    Raises:
        LaunchError: unknown names, or too few or many.
    """
    method, data, *pair = [*names, '', ''][: max(2, len(names))]
    wanted = 1 if method == ALONE else 2
    kinds = [task.kind for task in tasks_of_folder(DISTILL)]
    if method not in methods():
        near = meant(method, methods())
        raise LaunchError(f'no method {method!r}{near}; one of: {" ".join(methods())}')
    if data not in kinds:
        raise LaunchError(f'no data {data!r}{meant(data, kinds)}; one of: {" ".join(kinds)}')
    pair = [name for name in pair if name]
    if len(pair) != wanted:
        order = 'STUDENT' if wanted == 1 else 'TEACHER STUDENT'
        raise LaunchError(f'{len(pair)} networks after {data}; {method} wants {order}')
    for name in pair:
        if name not in NETWORKS:
            near = meant(name, NETWORKS)
            raise LaunchError(f'no network {name!r}{near}; one of: {" ".join(NETWORKS)}')
    leaf, student = recipe_leaf(data, pair[-1]), '_'.join([method, *pair])
    path = seen_from_home(leaf)
    return [path] if Path(leaf).stem == f'{data}_{student}' else [path, '--student', student]


def missing_steps(names: list[str], arguments: list[str]) -> list[Step]:
    """What makes the images and the teacher that a run on the sample needs and does not find.

    Raises:
        ConfigError: The run is none.
    """
    options = run_options(trained := train.parse_args(arguments))
    if options.track != SAMPLE or trained.print_work_dir:
        return []
    cfg = load_run_config(options, check=False)
    missing = missing_data(cfg)
    for teacher in cfg.model.get('teachers') or ():
        step = teacher_step(FILES, names[1], names[2])
        # Another file, named by an option, is not made here.
        if teacher.checkpoint == step.outputs[0] and not Path(teacher.checkpoint).exists():
            missing.append(replace(step, needs=tuple(made.name for made in missing)))
    return missing


def main(argv: list[str] | None = None) -> int:
    args, others = parse_args(argv)
    enter_home()
    try:
        if '--student' in others:
            raise LaunchError('--student: name teacher and student instead')
        arguments = [*find_run(args.names), *others]
        command = command_for(arguments, args.gpus)
        missing = missing_steps(args.names, arguments) if typed_track(others).stand_ins else []
        if args.dry_run:
            for step in missing:
                print(shlex.join(step.command))
        elif missing and (status := make(missing, DISTILL)):
            return status
    except (ConfigError, LaunchError, SweepError) as error:
        print(f'error: {error}', file=sys.stderr)
        return 2
    become(command, args.dry_run)


if __name__ == '__main__':
    sys.exit(main())
