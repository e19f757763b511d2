#!/usr/bin/env python
"""Build the leaderboard tables from run records and published figures."""

import argparse
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from comad.leaderboard.published import PUBLISHED
from comad.report import command as report_command

EPILOG = """examples:
  python tools/leaderboard.py             # results/leaderboard_{classification,...}.csv
  python tools/leaderboard.py --sample    # results/sample/leaderboard_*.csv
  python tools/leaderboard.py report      # results/report.html: tables, curves, predictions

Every finished evaluation leaves a record below results/[sample/]records; this tool averages them
over seeds. Rows are ranked only against rows of the same task, data, metric, pool and protocol,
with at least 3 seeds; a difference below 2 sqrt(s1^2/n1 + s2^2/n2) is a tie (same rank, marked =).
Published figures (results/published.csv) are listed with source and evidence and never ranked, as
no source states its whole protocol. Equal inputs give equal bytes.
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
    parser.add_argument('--quiet', action='store_true', help='write the CSVs, print no tables')
    parser.set_defaults(run=build)
    commands = parser.add_subparsers(title='commands', metavar='')
    page = commands.add_parser('report', help='make one HTML page: tables, curves, predictions')
    # An option before the command's name is not forgotten behind it.
    add_inputs(page, default=argparse.SUPPRESS)
    report_command.add_arguments(page)
    page.set_defaults(run=report)
    return parser.parse_args(argv)


def add_inputs(parser: argparse.ArgumentParser, **options: Any) -> None:
    """Where records and published figures are read."""
    sample = 'tables of the embedded sample'
    parser.add_argument('--sample', action='store_true', help=sample, **options)
    records = 'default: results/[sample/]records'
    parser.add_argument('--records', metavar='DIR', help=records, **options)
    options = {'default': PUBLISHED, **options}
    parser.add_argument('--published', metavar='CSV', help=f'default: {PUBLISHED}', **options)


def build(args: argparse.Namespace) -> int:
    """Build and write the tables."""
    from comad.leaderboard.build import build_leaderboards
    from comad.leaderboard.text import format_table

    boards = build_leaderboards(args.sample, args.records, args.out, args.published)
    for name, rows in boards.tables.items():
        if not args.quiet:
            print(format_table(name, rows), end='\n\n')
    for path in boards.files.values():
        print(f'wrote {path}')
    for note in boards.notes:
        print(f'note: {note}')
    for line in boards.refused:
        print(f'refused: {line}', file=sys.stderr)
    return 1 if boards.refused else 0


def report(args: argparse.Namespace) -> int:
    """Write the HTML page."""
    text, refused = report_command.run(args)
    print(text)
    for line in refused:
        print(f'refused: {line}', file=sys.stderr)
    return 1 if refused else 0


def main(argv: list[str] | None = None) -> int:
    args = parse_args(argv)
    try:
        return args.run(args)
    except (OSError, ValueError) as error:
        print(f'leaderboard: {error}', file=sys.stderr)
        return 2


if __name__ == '__main__':
    sys.exit(main())
