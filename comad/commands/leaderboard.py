"""Build the leaderboard tables from run records and published figures."""

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from backbones.files import one_line
from comad.commands.command import command
from comad.engine.options import add_track
from comad.runs.place import (
    FILES,
    OWN,
    PUBLISHED_CSV,
    enter_home,
    get_track,
    record_folders,
    results_folder,
    typed,
    worded,
)
from comad.runs.track import FULL, track_names

EPILOG = """examples:
  python tools/leaderboard.py             # results/leaderboard_{classification,...}.csv
  python tools/leaderboard.py --sample    # results/sample/leaderboard_*.csv; also --track NAME
  python tools/leaderboard.py --data photos    # results/own/photos/leaderboard_*.csv
  python tools/leaderboard.py --format csv markdown latex json
  python tools/leaderboard.py verify      # are the tables what records and files give?
  python tools/leaderboard.py diff A B    # what differs between two runs
  python tools/leaderboard.py report      # results/report.html: tables, curves, predictions

Every finished evaluation leaves a record below results/[TRACK/]records; this tool averages them
over seeds. Rows are ranked only against rows of the same task, data, metric, pool and protocol,
with at least 3 seeds; a difference below 2 sqrt(s1^2/n1 + s2^2/n2) is a tie (same rank, marked =).
Published figures (results/published.csv) are listed with source and evidence and never ranked, as
no source states its whole protocol. Equal inputs give equal bytes.
The full-scale tables and the sample's study (results/sample_study.csv) are also put between their
markers in docs/results.md, unless --out, --sample or --no-docs is given.
Exit code 1: a record or a published row was refused; it is named, all other rows are built.
"""

VERIFY_EPILOG = """examples:
  python tools/leaderboard.py verify             # the tables in results/
  python tools/leaderboard.py verify --sample    # those of your quickstart
  python tools/leaderboard.py verify --records DIR --out DIR    # somebody else's

Builds every table in memory and compares it with the file; hashes the students, checkpoints and
resolved configs that records cite, where they are on this machine; recomputes mean, sd and n of
the sample's study and ablations. Nothing is written. What the lines mean and how a row is
admitted: docs/records.md.
Exit code 0: all is as it should be; 1: something was refused or is stale, each with a line;
2: a folder or file is missing.
"""

DIFF_EPILOG = """examples:
  python tools/leaderboard.py diff linear_comad_tiny_p0_s0 linear_comad_tiny_p1_s1
  python tools/leaderboard.py diff linear_comad_tiny linear_mae_tiny    # all seeds of two rows
  python tools/leaderboard.py diff work_dirs/sample/linear/comad_tiny/seed0 \\
      work_dirs/sample/linear/mae_tiny/seed0 --figure curves.svg

A run is a record's file or bare name, a run's folder (work_dir), or TASK_STUDENT: all seeds of a
row, whose configs and curves are those of the first seeds both rows have. A difference is noise
below 2 sqrt(s1^2/n1 + s2^2/n2); a single run borrows the sd of its row's other seeds, which is
said. Entries of lists are named by their type: pipeline.Resize.scale. What two commits changed in
the tables is `git diff A B -- results`.
Exit code 0: config, student, figures and curves are equal; 1: they differ; 2: they cannot be
compared.
"""

REPORT_EPILOG = """examples:
  python tools/leaderboard.py report             # results/report.html
  python tools/leaderboard.py report --sample    # results/sample/report.html
  python tools/leaderboard.py report --records DIR --root DIR --out FILE    # somebody else's

One file below 1 MB without outside resources; open it in a browser. Curves, results per class and
pictures come from the runs' folders: what is not on this machine is named in the page.
Exit code 1: a record or a published row was refused; it is named, the page is made.
"""


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Parse; what the commands need is imported by the one that runs."""
    style = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=worded(EPILOG), formatter_class=style
    )
    add_inputs(parser)
    parser.add_argument(
        '--out', type=typed, metavar='DIR', help='folder of the CSVs, default: results/[TRACK]'
    )
    parser.add_argument(
        '--format',
        nargs='+',
        choices=('csv', 'markdown', 'latex', 'json'),
        default=['csv'],
        help='write leaderboard.{md,tex,json} beside the CSVs, which are always written',
    )
    parser.add_argument(
        '--no-docs', action='store_true', help='leave the tables in docs/results.md'
    )
    parser.add_argument('--quiet', action='store_true', help='write the CSVs, print no tables')
    parser.set_defaults(run=build)
    commands = parser.add_subparsers(title='commands', metavar='[COMMAND]')
    for run, short, description, epilog, add_arguments in (
        (
            verify,
            'compare the tables with records, files and published figures',
            'Verify that the tables are what records, files and published figures give.',
            VERIFY_EPILOG,
            add_verify,
        ),
        (
            diff,
            'compare two runs',
            'Compare two runs, or all seeds of two rows.',
            DIFF_EPILOG,
            add_diff,
        ),
        (
            report,
            'make one HTML page: tables, curves, predictions',
            'Make one self-contained HTML page of the tables and what the runs left.',
            REPORT_EPILOG,
            add_report,
        ),
    ):
        part = commands.add_parser(
            run.__name__,
            help=short,
            description=description,
            epilog=worded(epilog),
            formatter_class=style,
        )
        add_arguments(part)
        part.set_defaults(run=run)
    return parser.parse_args(argv)


def add_inputs(parser: argparse.ArgumentParser, **options: Any) -> None:
    """Where records and published figures are read."""
    add_track(parser, **options)
    data = "tables of data of one's own, by the name that results/own/ has for them"
    parser.add_argument('--data', metavar='NAME', help=data, **({'default': ''} | options))
    records = 'default: results/[TRACK/][own/NAME/]records'
    parser.add_argument('--records', type=typed, metavar='DIR', help=records, **options)
    options = {'default': PUBLISHED_CSV, **options}
    parser.add_argument(
        '--published', type=typed, metavar='CSV', help=f'default: {PUBLISHED_CSV}', **options
    )


def add_verify(parser: argparse.ArgumentParser) -> None:
    """What ``verify`` takes; an option before the command's name is not forgotten behind it."""
    add_inputs(parser, default=argparse.SUPPRESS)
    parser.add_argument(
        '--out',
        type=typed,
        metavar='DIR',
        default=argparse.SUPPRESS,
        help='folder of the tables, default: results/[TRACK]',
    )


def add_diff(parser: argparse.ArgumentParser) -> None:
    """What ``diff`` takes."""
    parser.add_argument('a', metavar='A', help='record, run folder or TASK_STUDENT')
    parser.add_argument('b', metavar='B', help='the same')
    parser.add_argument(
        '--records',
        type=typed,
        metavar='DIR',
        help='default: results/records and those of all tracks',
    )
    parser.add_argument(
        '--figure', type=typed, metavar='FILE', help='draw the curves: .svg, .png or .pdf'
    )
    parser.add_argument('--json', action='store_true', help='print JSON instead of text')


def add_report(parser: argparse.ArgumentParser) -> None:
    """What ``report`` takes."""
    add_inputs(parser, default=argparse.SUPPRESS)
    parser.add_argument(
        '--out',
        type=typed,
        metavar='FILE',
        default=argparse.SUPPRESS,
        help='the page, default: results/[TRACK/]report.html',
    )
    parser.add_argument(
        '--root',
        type=typed,
        metavar='DIR',
        default=Path(),
        help='folder that holds work_dirs, default: here',
    )


def verify(args: argparse.Namespace) -> int:
    """Compare the tables with their sources."""
    from comad.leaderboard.verify import verify

    found = verify(args.track, args.records, args.out, args.published, data=args.data)
    for line in found.looked:
        print(line)
    for line in found.notes:
        print(f'note: {line}')
    for line in found.refused:
        print(f'refused: {line}', file=sys.stderr)
    for line in found.stale:
        print(f'stale: {line}', file=sys.stderr)
    if found.sound:
        print('verified: nothing is refused and every table is up to date')
        return 0
    print(f'not verified: {len(found.refused)} refused, {len(found.stale)} stale', file=sys.stderr)
    return 1


def build(args: argparse.Namespace) -> int:
    """Build and write the tables."""
    from comad.leaderboard.outputs import format_table, write_formats
    from comad.leaderboard.results_page import update_page
    from comad.leaderboard.tables import build_leaderboards

    boards = build_leaderboards(args.track, args.records, args.out, args.published, args.data)
    for name, rows in boards.tables.items():
        if not args.quiet:
            print(format_table(name, rows), end='\n\n')
    paths = list(boards.files.values())
    paths += write_formats(args.format, boards.tables, paths[0].parent)
    for path in paths:
        print(f'wrote {path}')
    for note in boards.notes:
        print(f'note: {note}')
    for line in boards.refused:
        print(f'refused: {line}', file=sys.stderr)
    if args.track == FULL and not (args.data or args.no_docs) and args.out is None:
        for path in update_page(boards.tables):
            print(f'wrote {path}')
    return 1 if boards.refused else 0


def _check_data(args: argparse.Namespace) -> None:
    """Refuse a name that no run on data of one's own has left records under."""
    if not args.data or args.records is not None:
        return
    folder = results_folder(args.track, args.data) / 'records'
    if folder.is_dir():
        return
    command = worded('python tools/leaderboard.py')
    command += '' if args.run is build else f' {args.run.__name__}'
    found = [
        (path.parent.name != args.data, name != args.track, name, path.parent.name)
        for name in track_names(FILES)
        for path in results_folder(name).glob(f'{OWN}/*/records')
    ]
    # Those of the same name, or of the same track, first.
    there = [
        f'{command}{get_track(track).option} --data {data}' for _, _, track, data in sorted(found)
    ]
    words = f'there is: {", ".join(there[:3])}' if there else 'no run on such data has left any'
    raise FileNotFoundError(f'--data {args.data}: no {folder}; {words}')


def diff(args: argparse.Namespace) -> int:
    """Compare two runs; 0: they are equal, 1: they differ."""
    from comad.leaderboard.compare import compare_runs
    from comad.leaderboard.find_run import find_run
    from comad.leaderboard.side_by_side import draw_curves, format_runs

    known = record_folders()
    own = (path for folder in known for path in sorted(folder.parent.glob(f'{OWN}/*/records')))
    folders = (Path(args.records),) if args.records else (*known, *own)
    found = compare_runs(find_run(args.a, folders), find_run(args.b, folders))
    if args.figure:
        draw_curves(*found.drawn, found.names, args.figure)
    if args.json:
        print(json.dumps(found.as_dict(), indent=1, sort_keys=True, allow_nan=False))
    else:
        print(format_runs(found) + (f'\nwrote {args.figure}' if args.figure else ''))
    return 0 if found.equal else 1


def report(args: argparse.Namespace) -> int:
    """Write the HTML page."""
    from comad.leaderboard.tables import make_leaderboards
    from comad.report.page import write_report

    boards = make_leaderboards(args.track, args.records, published=args.published, data=args.data)
    out = args.out or results_folder(args.track, args.data) / 'report.html'
    path = write_report(boards, out, args.track, args.root)
    print(f'wrote {path} ({path.stat().st_size / 1000:.0f} kB)')
    for line in boards.refused:
        print(f'refused: {line}', file=sys.stderr)
    return 1 if boards.refused else 0


@command
def main(argv: list[str] | None = None) -> int:
    args = parse_args(argv)
    try:
        enter_home()
        if args.run is not diff:
            _check_data(args)
        return args.run(args)
    except (OSError, ValueError) as error:
        print(f'leaderboard: {one_line(error)}', file=sys.stderr)
        return 2


if __name__ == '__main__':
    sys.exit(main())
