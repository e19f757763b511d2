#!/usr/bin/env python
"""Build the leaderboard tables from run records and published figures."""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from comad.leaderboard import diff_command
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
        choices=('csv', 'markdown', 'latex', 'json'),
        default=['csv'],
        help='write leaderboard.{md,tex,json} beside the CSVs, which are always written',
    )
    parser.add_argument('--no-readme', action='store_true', help='leave the tables in README.md')
    parser.add_argument('--quiet', action='store_true', help='write the CSVs, print no tables')
    parser.set_defaults(run=build)
    commands = parser.add_subparsers(title='commands', metavar='')
    text = 'compare two runs or two commits'
    diff_command.add_arguments(commands.add_parser('diff', help=text, description=text))
    commands.choices['diff'].set_defaults(run=diff)
    return parser.parse_args(argv)


def add_inputs(parser: argparse.ArgumentParser) -> None:
    """Where records and published figures are read."""
    parser.add_argument('--sample', action='store_true', help='tables of the embedded sample')
    parser.add_argument('--records', metavar='DIR', help='default: results/[sample/]records')
    parser.add_argument(
        '--published', metavar='CSV', default=PUBLISHED, help='default: %(default)s'
    )


def build(args: argparse.Namespace) -> int:
    """Build and write the tables."""
    from comad.leaderboard.build import build_leaderboards
    from comad.leaderboard.outputs import update_readme, write_formats
    from comad.leaderboard.text import format_table

    boards = build_leaderboards(args.sample, args.records, args.out, args.published)
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
    if not args.sample and args.out is None and not args.no_readme:
        for path in update_readme(boards.tables):
            print(f'wrote {path}')
    return 1 if boards.refused else 0


def diff(args: argparse.Namespace) -> int:
    """Compare two runs or two commits."""
    text, code = diff_command.run(args)
    print(text)
    return code


def main(argv: list[str] | None = None) -> int:
    args = parse_args(argv)
    try:
        return args.run(args)
    except (OSError, ValueError) as error:
        print(f'leaderboard: {error}', file=sys.stderr)
        return 2


if __name__ == '__main__':
    sys.exit(main())
