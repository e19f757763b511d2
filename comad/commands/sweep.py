"""Run a grid of trainings and evaluations: resumes where it stopped, skips what is done."""

import argparse
import os
import signal
import sys
from typing import Any

from comad.commands.command import command
from comad.runs.place import FILES, enter_home, home, worded
from comad.sweep.distillation import distillation
from comad.sweep.estimate import show_seconds
from comad.sweep.grid import STUDY_KINDS, ablations, quickstart, study
from comad.sweep.runner import Sweep
from comad.sweep.step import SweepError
from comad.sweep.video import video

EPILOG = """examples:
  python tools/sweep.py quickstart                      # everything once, minutes
  python tools/sweep.py study --sample --seeds 3        # results/sample_study.csv, and its rows
  python tools/sweep.py study --sample --methods dmt amd    # these alone; other rows stay
  python tools/sweep.py study --sample --equal 4        # all get the compute of 4 runs of comad
  python tools/sweep.py ablations --sample --seeds 3    # results/sample_ablations.csv and .png
  python tools/sweep.py distillation --sample --seeds 5   # results/sample_distillation.csv
  python tools/sweep.py video --sample --seeds 3        # results/sample_video.csv
  python tools/sweep.py quickstart --dry-run            # the steps, which are done, the time left
  python tools/sweep.py quickstart --redo pretrain_comad_tiny_p0    # that step and all behind it
  python tools/sweep.py status

Steps run side by side, one thread each. A step is done when its outputs exist and were made from
the present command, configs and inputs; a change of the code alone does not undo it (use --redo).
Logs: work_dirs/sample/sweep/<grid>/<step>.log. Ctrl-C ends the running steps; the same command
goes on from there. Exit code 1: a step failed. The ablations and the distillation go on
after a failed cell and show it as missing.
"""

SEVERAL = {'study': study, 'ablations': ablations, 'distillation': distillation, 'video': video}


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__,
        epilog=worded(EPILOG),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    grids = parser.add_subparsers(dest='grid', required=True, metavar='GRID')
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument('--dry-run', action='store_true', help='list the steps, run nothing')
    common.add_argument(
        '--jobs',
        type=int,
        default=min(os.cpu_count() or 1, 4),
        metavar='N',
        help='steps side by side (default: one per core, at most 4; here %(default)s)',
    )
    common.add_argument(
        '--redo',
        nargs='+',
        default=[],
        metavar='STEP',
        help='run these again, and what needs them; the word all stands for every step',
    )
    grids.add_parser(
        'quickstart', parents=[common], help='sample, teachers, students, transfers, tables'
    )
    for name, text in (
        ('study', 'several paired pretraining seeds'),
        ('ablations', "CoMAD's choices one by one, several paired seeds"),
        ('distillation', 'two pairs of networks, methods and terms of FBT, several paired seeds'),
        ('video', 'AMD, VideoMAE and scratch on clips, several paired seeds'),
    ):
        several = grids.add_parser(name, parents=[common], help=text)
        several.add_argument(
            '--sample',
            action='store_true',
            required=True,
            help='this grid is one of the embedded sample; at full scale, run its cells on a '
            'cluster',
        )
        several.add_argument(
            '--seeds', type=int, default=3, metavar='N', help='default: %(default)s'
        )
        if name == 'study':
            add_study_arguments(several)
    status = grids.add_parser('status', help='what is done, of all grids')
    status.add_argument('--seeds', type=int, default=3, metavar='N', help='per cell, default 3')
    args = parser.parse_args(argv)
    if getattr(args, 'seeds', 1) < 1 or getattr(args, 'jobs', 1) < 1:
        parser.error('--seeds and --jobs are at least 1')
    if getattr(args, 'equal', 0) < 0:
        parser.error('--equal is a whole factor of at least 1')
    return args


def add_study_arguments(parser: argparse.ArgumentParser) -> None:
    """Which part of the study to run, and at which cost."""
    parser.add_argument(
        '--methods',
        nargs='+',
        default=[],
        metavar='NAME',
        help='only these, e.g. dmt d_mae_lite; other rows of the CSV stay as they are',
    )
    parser.add_argument(
        '--tasks',
        nargs='+',
        default=list(STUDY_KINDS),
        metavar='KIND',
        help=f'some of {", ".join(STUDY_KINDS)}; all by default',
    )
    parser.add_argument(
        '--equal',
        type=int,
        default=0,
        metavar='FACTOR',
        help="as many epochs of each method as cost FACTOR times comad's run; rows are then named "
        '<method>_equal<FACTOR>_tiny',
    )


def make_sweep(grid: str, seeds: int, jobs: int, **part: Any) -> Sweep:
    steps = SEVERAL[grid](FILES, seeds, **part) if grid in SEVERAL else quickstart(FILES)
    return Sweep(
        grid, steps, home(), files=FILES, slots=jobs, keep_going=grid in SEVERAL, report=say
    )


def study_part(args: argparse.Namespace) -> dict[str, Any]:
    """The study's arguments as :func:`comad.sweep.grid.study` takes them."""
    return dict(methods=args.methods, kinds=args.tasks, equal=args.equal)


def say(line: str) -> None:
    print(line, flush=True)


def list_steps(sweep: Sweep) -> None:
    pending = {step.name for step in sweep.pending()}
    for number, step in enumerate(sweep.steps, start=1):
        state = 'to do' if step.name in pending else 'done '
        say(f'[{number}/{len(sweep.steps)}] {state} {step.name}: {" ".join(step.command)}')
    left = show_seconds(sweep.time_left())
    say(f'{len(pending)} of {len(sweep.steps)} steps to do, about {left} side by side')


def run(sweep: Sweep) -> bool:
    outcome = sweep.run()
    what = f'{len(outcome.done)} run, {len(outcome.skipped)} up to date'
    if not outcome.complete:
        what += f', {len(outcome.failed)} failed, {len(outcome.not_run)} not run'
    memory = f', largest process {outcome.peak_mb / 1024:.1f} GiB' if outcome.done else ''
    say(f'{sweep.grid}: {what}, in {show_seconds(outcome.seconds)}{memory}')
    for name in outcome.failed:
        say(f'failed: {name}, see {sweep.log(sweep.by_name[name])}')
    return outcome.complete


def finish(sweep: Sweep, seeds: int, complete: bool) -> None:
    """Write and read what a grid is for; a study only if all of it is there."""
    from comad.sweep import finish

    if sweep.grid == 'ablations':
        reading = finish.finish_ablations(home(), sweep, seeds)
        say(f'wrote {finish.ABLATIONS_CSV} and {finish.ABLATIONS_FIGURE}')
    elif sweep.grid == 'distillation':
        reading = finish.finish_distillation(home(), sweep, seeds)
        say(f'wrote {finish.DISTILLATION_CSV}')
    elif sweep.grid in ('study', 'video') and complete:
        table = finish.VIDEO_CSV if sweep.grid == 'video' else finish.STUDY_CSV
        reading = finish.finish_study(home(), sweep.steps, table)
        say(f'wrote {table}')
    else:
        return
    for line in reading:
        say(line)


@command
def main(argv: list[str] | None = None) -> int:
    args = parse_args(argv)
    enter_home()
    # An ended session or `kill` is treated as Ctrl-C: no step outlives the sweep.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        if args.grid == 'status':
            for grid in ('quickstart', *SEVERAL):
                say(f'{grid}:')
                list_steps(make_sweep(grid, args.seeds, jobs=min(os.cpu_count() or 1, 4)))
            return 0
        part = study_part(args) if args.grid == 'study' else {}
        sweep = make_sweep(args.grid, getattr(args, 'seeds', 1), args.jobs, **part)
        if args.dry_run:
            list_steps(sweep)
            return 0
        sweep.forget(sweep.by_name if args.redo == ['all'] else args.redo)
        complete = run(sweep)
        finish(sweep, getattr(args, 'seeds', 1), complete)
        return 0 if complete else 1
    except SweepError as error:
        print(f'sweep: {error}', file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print('sweep: interrupted; the same command goes on from here', file=sys.stderr)
        return 130


if __name__ == '__main__':
    sys.exit(main())
