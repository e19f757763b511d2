#!/usr/bin/env python
"""Build the leaderboard tables from run records and published figures."""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from comad.leaderboard.published import PUBLISHED

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
    commands = parser.add_subparsers(title='commands', metavar='', required=False)
    add_report(commands)
    return parser.parse_args(argv)


def add_report(commands: argparse._SubParsersAction) -> None:
    """The command that makes one HTML page of everything."""
    parser = commands.add_parser('report', help='one HTML page: tables, curves, predictions')
    add_inputs(parser)
    parser.add_argument(
        '--out', metavar='FILE', help='the page, default: results/[sample/]report.html'
    )
    parser.add_argument(
        '--root', metavar='DIR', default='.', help='folder that holds work_dirs, default: here'
    )
    parser.set_defaults(run=report)


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
    from comad.leaderboard.build import RESULTS, SAMPLE_RESULTS, read_leaderboards
    from comad.report.page import write_report

    boards = read_leaderboards(args.sample, args.records, args.published)
    home = SAMPLE_RESULTS if args.sample else RESULTS
    path = write_report(boards, args.out or home / 'report.html', args.sample, args.root)
    print(f'wrote {path} ({path.stat().st_size / 1000:.0f} kB)')
    for line in boards.refused:
        print(f'refused: {line}', file=sys.stderr)
    return 1 if boards.refused else 0


def main(argv: list[str] | None = None) -> int:
    args = parse_args(argv)
    try:
        return args.run(args)
    except (OSError, ValueError) as error:
        print(f'leaderboard: {error}', file=sys.stderr)
        return 2


if __name__ == '__main__':
    sys.exit(main())
