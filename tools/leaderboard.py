#!/usr/bin/env python
"""Build the leaderboard tables from run records and published figures."""

import argparse
import json
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from comad.leaderboard.published import PUBLISHED

EPILOG = """examples:
  python tools/leaderboard.py             # results/leaderboard_{classification,...}.csv
  python tools/leaderboard.py --sample    # results/sample/leaderboard_*.csv
  python tools/leaderboard.py --format csv markdown latex json
  python tools/leaderboard.py diff A B    # what differs between two runs or two commits

Every finished evaluation leaves a record below results/[sample/]records; this tool averages them
over seeds. Rows are ranked only against rows of the same task, data, metric, pool and protocol,
with at least 3 seeds; a difference below 2 sqrt(s1^2/n1 + s2^2/n2) is a tie (same rank, marked =).
Published figures (results/published.csv) are listed with source and evidence and never ranked, as
no source states its whole protocol. Equal inputs give equal bytes.
The full-scale tables and the sample's study (results/sample_study.csv) are also put between their
markers in README.md, unless --out, --sample or --no-readme is given.
Exit code 1: a record or a published row was refused; it is named, all other rows are built.
"""

# Format -> file name and the module with its function, imported when it is asked for.
FORMATS = {
    'markdown': ('leaderboard.md', 'markdown', 'to_markdown'),
    'latex': ('leaderboard.tex', 'latex', 'to_latex'),
    'json': ('leaderboard.json', 'json_table', 'to_json'),
}
DIFF_EPILOG = """examples:
  python tools/leaderboard.py diff linear_comad_tiny_p0_s0 linear_comad_tiny_p1_s1
  python tools/leaderboard.py diff linear_comad_tiny linear_mae_tiny    # all seeds of two rows
  python tools/leaderboard.py diff work_dirs/sample/linear/comad_tiny/seed0 \\
      work_dirs/sample/linear/mae_tiny/seed0 --figure curves.svg
  python tools/leaderboard.py diff HEAD~1 HEAD                          # two commits' tables

A run is a record's file or bare name, a run's folder (work_dir), or TASK_STUDENT: all seeds of a
row, whose configs and curves are those of the first seeds both rows have. A commit is whatever git
rev-parse reads; a name that is both is the run, unless --commits is given. A difference is noise
below 2 sqrt(s1^2/n1 + s2^2/n2); a single run borrows the sd of its row's other seeds, which is
said. Entries of lists are named by their type: pipeline.Resize.scale.
Exit code 0: config, student, figures and curves (commits: configs and rows) are equal; 1: they
differ; 2: they cannot be compared.
"""


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_inputs(parser)
    parser.add_argument(
        '--out', metavar='DIR', help='folder of the CSVs, default: results/[sample]'
    )
    parser.add_argument(
        '--format',
        nargs='+',
        choices=('csv', *FORMATS),
        default=['csv'],
        help='write leaderboard.{md,tex,json} beside the CSVs, which are always written',
    )
    parser.add_argument('--no-readme', action='store_true', help='leave the tables in README.md')
    parser.add_argument('--quiet', action='store_true', help='write the CSVs, print no tables')
    parser.set_defaults(run=build)
    commands = parser.add_subparsers(title='commands', metavar='')
    add_diff(commands)
    return parser.parse_args(argv)


def add_inputs(parser: argparse.ArgumentParser) -> None:
    """Where records and published figures are read."""
    parser.add_argument('--sample', action='store_true', help='tables of the embedded sample')
    parser.add_argument('--records', metavar='DIR', help='default: results/[sample/]records')
    parser.add_argument(
        '--published', metavar='CSV', default=PUBLISHED, help='default: %(default)s'
    )


def add_diff(commands: Any) -> None:
    """The command that compares two runs or two commits."""
    text = 'compare two runs or two commits'
    parser = commands.add_parser(
        'diff',
        help=text,
        description=f'{text.capitalize()}: config, student, environment, figures, curves.',
        epilog=DIFF_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument('a', metavar='A', help='record, run folder, TASK_STUDENT or commit')
    parser.add_argument('b', metavar='B', help='the same')
    parser.add_argument('--commits', action='store_true', help='A and B are commits')
    parser.add_argument(
        '--records', metavar='DIR', help='default: results/records, results/sample/records'
    )
    parser.add_argument('--figure', metavar='FILE', help='draw the curves: .svg, .png or .pdf')
    parser.add_argument('--json', action='store_true', help='print JSON instead of text')
    parser.set_defaults(run=diff)


def diff(args: argparse.Namespace) -> int:
    """Compare two runs or two commits."""
    from comad.leaderboard.curves import draw_curves
    from comad.leaderboard.diff import RunsDifference, compare
    from comad.leaderboard.diff_text import format_commits, format_runs

    folders = {'folders': (Path(args.records),)} if args.records else {}
    found = compare(args.a, args.b, args.commits, **folders)
    of_runs = isinstance(found, RunsDifference)
    if args.figure and not of_runs:
        raise ValueError('--figure draws the curves of runs; commits have none')
    if args.json:
        print(json.dumps(found.as_dict(), indent=1, sort_keys=True, allow_nan=False))
    else:
        print(format_runs(found) if of_runs else format_commits(found))
    if args.figure:
        path = draw_curves(*found.drawn, found.names, args.figure)
        print(f'wrote {path}', file=sys.stderr)
    return 0 if found.equal else 1


def build(args: argparse.Namespace) -> int:
    """Build and write the tables."""
    from comad.leaderboard.build import build_leaderboards
    from comad.leaderboard.text import format_table

    boards = build_leaderboards(args.sample, args.records, args.out, args.published)
    for name, rows in boards.tables.items():
        if not args.quiet:
            print(format_table(name, rows), end='\n\n')
    for path in [*boards.files.values(), *write_formats(args.format, boards)]:
        print(f'wrote {path}')
    if not args.sample and args.out is None and not args.no_readme:
        update_readme(boards)
    for note in boards.notes:
        print(f'note: {note}')
    for line in boards.refused:
        print(f'refused: {line}', file=sys.stderr)
    return 1 if boards.refused else 0


def write_formats(names: list[str], boards: Any) -> list[Path]:
    """Write the tables in further formats beside the CSVs."""
    from comad.leaderboard.tables import write_text

    folder = next(iter(boards.files.values())).parent
    paths = []
    for name in dict.fromkeys(names):
        if name in FORMATS:
            file, module, function = FORMATS[name]
            render = getattr(import_module(f'comad.leaderboard.{module}'), function)
            paths.append(folder / file)
            write_text(paths[-1], render(boards.tables))
    return paths


def update_readme(boards: Any) -> None:
    """Put the tables and the study between their markers in README.md, where there is one."""
    from comad.leaderboard import readme
    from comad.leaderboard.study_table import read_table

    if readme.README.is_file():
        blocks = {
            'leaderboard': readme.leaderboard_block(boards.tables),
            'study': readme.study_block(read_table(readme.STUDY)),
        }
        if readme.rewrite(readme.README, blocks):
            print(f'wrote {readme.README}')


def main(argv: list[str] | None = None) -> int:
    args = parse_args(argv)
    try:
        return args.run(args)
    except (OSError, ValueError) as error:
        print(f'leaderboard: {error}', file=sys.stderr)
        return 2


if __name__ == '__main__':
    sys.exit(main())
