"""Run a grid of trainings and evaluations: resumes where it stopped, skips what is done."""

import argparse
import os
import signal
import sys
from typing import Any

from comad.commands.command import check_counts, command
from comad.commands.launcher import gpu_count
from comad.engine.options import add_track
from comad.recipes.price import TFLOPS
from comad.runs.place import FILES, enter_home, get_track, home, runs_folder, worded
from comad.runs.track import SAMPLE
from comad.sweep.adopt import made_as_now
from comad.sweep.complementary import complementary
from comad.sweep.distillation import distillation
from comad.sweep.estimate import show_seconds
from comad.sweep.grid import ablations, quickstart, sample_check, study
from comad.sweep.runner import Sweep
from comad.sweep.slurm import JOBS, job_command, jobs_file, states_of_jobs, submit
from comad.sweep.step import Step, SweepError
from comad.sweep.teachers import finish_teachers, teachers, with_shipped
from comad.sweep.video import video

EPILOG = """examples:
  python tools/sweep.py quickstart                      # everything once, minutes
  python tools/sweep.py study --sample --seeds 3        # results/sample_study.csv, and its rows
  python tools/sweep.py study --sample --methods dmt amd    # these alone; other rows stay
  python tools/sweep.py study --sample --equal 4        # all get the compute of 4 runs of comad
  python tools/sweep.py study --track overnight --seeds 1   # all GPUs here, one step after another
  python tools/sweep.py study --tasks linear knn --dry-run  # full scale: the commands, the hours
  python tools/sweep.py study --slurm gpu               # a cluster: what is not done or queued
  python tools/sweep.py ablations --sample --seeds 3    # results/sample_ablations.csv and .png
  python tools/sweep.py complementary --sample          # results/sample_complementary.csv
  python tools/sweep.py distillation --sample --seeds 5   # results/sample_distillation.csv
  python tools/sweep.py video --sample --seeds 3        # results/sample_video.csv
  python tools/sweep.py sample-check                    # results/sample_check.csv
  python tools/sweep.py teachers --sample               # trains the sample's teachers anew
  python tools/sweep.py quickstart --dry-run            # the steps, which are done, the time left
  python tools/sweep.py quickstart --redo pretrain_comad_tiny_p0    # that step and all behind it
  python tools/sweep.py status

On the embedded sample steps run side by side, one thread each; elsewhere one after another on all
GPUs, and a training that was stopped goes on from its checkpoint. What is missing of data and
teachers' files is said before anything starts. A step is done when its outputs exist and were made
from the present command, configs and inputs; a change of the code alone does not undo it (use
--redo).
Logs: work_dirs/[TRACK/]sweep/<grid>/<step>.log. Ctrl-C ends the running steps; the same command
goes on from there. Exit code 1: a step failed: what needs it is held back,
all else is run; the quickstart ends there.
"""

SEVERAL = {
    'study': study,
    'ablations': ablations,
    'complementary': complementary,
    'distillation': distillation,
    'video': video,
    'sample-check': sample_check,
}
ONCE = {'quickstart': quickstart, 'teachers': teachers}
STATES = ('done', 'running', 'waiting', 'failed')


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
        metavar='N',
        help='steps side by side (default: one per core on the sample, at most 4; else 1)',
    )
    common.add_argument(
        '--redo',
        nargs='+',
        default=[],
        metavar='STEP',
        help='run these again, and what needs them; the word all stands for every step',
    )
    common.add_argument(
        '--train-teachers',
        action='store_true',
        help='train the teachers that come with the sample, instead of placing their files',
    )
    grids.add_parser(
        'quickstart', parents=[common], help='sample, teachers, students, transfers, tables'
    )
    for name, text in (
        ('teachers', "the sample's teachers, trained and probed, to come with it from then on"),
        ('study', 'several paired pretraining seeds'),
        ('ablations', "CoMAD's choices one by one, several paired seeds"),
        ('complementary', 'the gate of CoMAD where each teacher knows some of the classes'),
        ('distillation', 'two pairs of networks, methods and terms of FBT, several paired seeds'),
        ('video', 'AMD, VideoMAE and scratch on clips, several paired seeds'),
        ('sample-check', "whether the sample's teachers beat random weights in every task"),
    ):
        several = grids.add_parser(name, parents=[common], help=text)
        if name == 'study':
            add_track(several)
        else:
            several.add_argument(
                '--sample',
                dest='track',
                action='store_const',
                const=SAMPLE,
                required=name != 'sample-check',
                default=SAMPLE,
                help='this grid is one of the embedded sample',
            )
        if name == 'teachers':
            several.add_argument(
                '--methods', nargs='+', default=[], metavar='NAME', help='only these teachers'
            )
            continue
        several.add_argument(
            '--seeds',
            type=int,
            default=5 if name == 'sample-check' else 3,
            metavar='N',
            help='default: %(default)s',
        )
        if name == 'study':
            add_study_arguments(several)
    status = grids.add_parser(
        'status', help="what is done, running, waiting and failed of a track's grids"
    )
    status.add_argument('--seeds', type=int, default=3, metavar='N', help='per cell, default 3')
    status.add_argument('--gpus', type=int, metavar='N', help='as for the study')
    add_track(status, default=SAMPLE)
    add_part_arguments(status)
    status.set_defaults(jobs=None, train_teachers=False)
    args = parser.parse_args(argv)
    check_counts(parser, args, 'seeds', 'jobs', 'gpus')
    if (factor := getattr(args, 'equal', 0)) < 0:
        parser.error(f'--equal {factor}: expected a whole factor of 1 or more')
    return args


def add_part_arguments(parser: argparse.ArgumentParser) -> None:
    """Which part of the study."""
    parser.add_argument(
        '--methods',
        nargs='+',
        default=[],
        metavar='NAME',
        help='of the study only these, e.g. dmt d_mae_lite; other rows of the CSV stay as they are',
    )
    parser.add_argument(
        '--tasks',
        nargs='+',
        default=[],
        metavar='KIND',
        help="of the study these kinds of tasks, such as linear; by default all of the track's",
    )


def add_study_arguments(parser: argparse.ArgumentParser) -> None:
    """Which part of the study to run, and at which cost."""
    add_part_arguments(parser)
    parser.add_argument(
        '--gpus',
        type=int,
        metavar='N',
        help="GPUs of a training, but on the sample (default: all here; with --slurm the recipe's)",
    )
    parser.add_argument(
        '--slurm',
        metavar='PARTITION',
        help='submit a job per step, which waits for those that it needs; SBATCH_ARGS, e.g. '
        '--time=8:00:00, and the other variables are those of tools/slurm_train.sh',
    )
    parser.add_argument(
        '--equal',
        type=int,
        default=0,
        metavar='FACTOR',
        help="as many epochs of each method as cost FACTOR times comad's run; rows are then named "
        '<method>_equal<FACTOR>_tiny',
    )


def make_sweep(
    grid: str,
    seeds: int,
    jobs: int | None = None,
    track: str = SAMPLE,
    gpus: int | None = None,
    on_cluster: bool = False,
    train_teachers: bool = False,
    **part: Any,
) -> Sweep:
    """A grid as it is run; ``part`` as :func:`comad.sweep.grid.study` takes it.

    Teachers that come with the sample are only trained by the grid of teachers, or if asked for.
    """
    small = get_track(track).stand_ins
    if grid == 'study':
        part['track'] = track
    steps = ONCE[grid](FILES, **part) if grid in ONCE else SEVERAL[grid](FILES, seeds, **part)
    if small and not train_teachers and grid != 'teachers':
        steps = with_shipped(steps)
    most = max(step.processes for step in steps) if on_cluster else max(gpu_count(), 1)
    gpus = 1 if small else gpus or most
    if not small:
        from comad.sweep.plan import priced

        steps = priced(steps, get_track(track), gpus, TFLOPS, report=tell)
    state = runs_folder(track) / 'sweep'
    # What a cluster has made has no stamp either.
    proven = not small or on_cluster or (home() / state / JOBS).is_file()
    return Sweep(
        grid,
        steps,
        home(),
        state,
        files=FILES,
        slots=jobs or (min(os.cpu_count() or 1, 4) if small else 1),
        keep_going=grid != 'quickstart',
        resume=not small or on_cluster,
        gpus=gpus,
        # Where there is a GPU the imports ask for it, and CUDA cannot be forked.
        forks=small and not gpu_count(),
        adopts=lambda step: proven and made_as_now(home(), step, track),
        tells=found_by,
        report=say,
    )


def study_part(args: argparse.Namespace) -> dict[str, Any]:
    """The study's own arguments."""
    own = dict(methods=args.methods, kinds=args.tasks, equal=args.equal)
    return own | dict(gpus=args.gpus, on_cluster=bool(args.slurm))


def found_by(step: Step) -> str:
    from comad.sweep.finish import figure_of  # pandas: no dry run waits for it

    return figure_of(home(), step)


def tell(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def say(line: str) -> None:
    print(line, flush=True)


def list_steps(sweep: Sweep, partition: str | None = None) -> None:
    pending = {step.name for step in sweep.pending()}
    for number, step in enumerate(sweep.steps, start=1):
        state = 'to do' if step.name in pending else 'done '
        words = job_command(sweep, step, partition) if partition else sweep.typed(step)
        say(f'[{number}/{len(sweep.steps)}] {state} {step.name}: {" ".join(words)}')
    left = show_seconds(sweep.time_left())
    say(f'{len(pending)} of {len(sweep.steps)} steps to do, about {left} side by side')
    for line, steps in sweep.missing().items():
        say(f'{line} (for {steps[0]}' + (f' and {len(steps) - 1} more)' if steps[1:] else ')'))


def show_status(sweep: Sweep) -> None:
    """How many steps are where, the names of those that run or failed, and the time left."""
    left = show_seconds(sweep.time_left())
    if jobs_file(sweep).is_file():
        found = states_of_jobs(sweep)
        # How many run side by side is up to the cluster.
        shortest = show_seconds(sweep.time_left(len(sweep.steps)))
        left = f'{show_seconds(sweep.time_left(1))} of jobs, {shortest} if nothing has to wait,'
    else:
        found = {step.name: sweep.state_of(step) for step in sweep.steps}
    states: dict[str, list[str]] = {}
    for name, state in found.items():
        states.setdefault(state, []).append(name)
    counts = ', '.join(f'{len(states.get(name, ()))} {name}' for name in STATES)
    say(f'{sweep.grid}: {counts}; about {left} left')
    for name in states.get('running', ()):
        say(f'  running: {name}')
    for name in states.get('failed', ()):
        say(f'  failed: {name}, see {sweep.log(sweep.by_name[name])}')


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


def finish(sweep: Sweep, seeds: int, complete: bool, track: str) -> None:
    """Write and read what a grid is for; a study only if all of it is there."""
    from comad.leaderboard.study import VIDEO_CSV
    from comad.sweep import finish

    if sweep.grid == 'ablations':
        reading = finish.finish_ablations(home(), sweep, seeds)
    elif sweep.grid == 'distillation':
        reading = finish.finish_distillation(home(), sweep, seeds)
    elif sweep.grid == 'complementary':
        reading = finish.finish_complementary(home(), sweep, seeds)
    elif sweep.grid == 'sample-check':
        reading = finish.finish_sample_check(home(), sweep)
    elif sweep.grid == 'quickstart' and complete:
        reading = finish.finish_quickstart(home(), sweep.steps)
    elif sweep.grid == 'teachers' and complete:
        reading = finish_teachers(home(), sweep.steps)
    elif sweep.grid in ('study', 'video') and complete:
        table = VIDEO_CSV if sweep.grid == 'video' else finish.study_csv(track)
        reading = finish.finish_study(home(), sweep.steps, table, track)
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
            small = get_track(args.track).stand_ins
            part = dict(methods=args.methods, kinds=args.tasks)
            for grid in (
                ('quickstart', *SEVERAL) if small and not any(part.values()) else ('study',)
            ):
                own = part if grid == 'study' else {}
                show_status(make_sweep(grid, args.seeds, track=args.track, gpus=args.gpus, **own))
            return 0
        partition = getattr(args, 'slurm', None)
        part = study_part(args) if args.grid == 'study' else {}
        part |= dict(methods=args.methods) if args.grid == 'teachers' else {}
        part['train_teachers'] = args.train_teachers
        track = getattr(args, 'track', SAMPLE)
        sweep = make_sweep(args.grid, getattr(args, 'seeds', 1), args.jobs, track, **part)
        redo = sweep.by_name if args.redo == ['all'] else args.redo
        if args.dry_run:
            sweep.forget(redo, stamps=False)
            list_steps(sweep, partition)
            return 0
        if missing := sweep.missing():
            for line, steps in missing.items():
                print(f'sweep: {line} (for {len(steps)} steps)', file=sys.stderr)
            return 2
        if partition:
            submitted = submit(sweep, partition, args.redo)
            say(f'{len(submitted)} jobs submitted; status: tools/sweep.py status --track {track}')
            return 0
        sweep.forget(redo)
        complete = run(sweep)
        finish(sweep, getattr(args, 'seeds', 1), complete, track)
        return 0 if complete else 1
    except SweepError as error:
        print(f'sweep: {error}', file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print('sweep: interrupted; the same command goes on from here', file=sys.stderr)
        return 130


if __name__ == '__main__':
    sys.exit(main())
