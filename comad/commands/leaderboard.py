"""Build the leaderboard tables from run records and published figures."""

import argparse
import sys
from typing import Any

from comad.leaderboard.diff import command as diff_command
from comad.leaderboard.published import PUBLISHED
from comad.report import command as report_command
from comad.runs.place import enter_home, typed, worded

EPILOG = """examples:
  python tools/leaderboard.py             # results/leaderboard_{classification,...}.csv
  python tools/leaderboard.py --sample    # results/sample/leaderboard_*.csv
  python tools/leaderboard.py --format csv markdown latex json
  python tools/leaderboard.py verify      # are the tables what records and files give?
  python tools/leaderboard.py diff A B    # what differs between two runs
  python tools/leaderboard.py report      # results/report.html: tables, curves, predictions

Every finished evaluation leaves a record below results/[sample/]records; this tool averages them
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


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__,
        epilog=worded(EPILOG),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_inputs(parser)
    parser.add_argument(
        '--out', type=typed, metavar='DIR', help='folder of the CSVs, default: results/[sample]'
    )
    parser.add_argument(
        '--format',
        nargs='+',
        choices=('csv', 'markdown', 'latex', 'json'),
        default=['csv'],
        help='write leaderboard.{md,tex,json} beside the CSVs, which are always written',
    )
    parser.add_argument(
        '--no-docs',
        '--no-readme',  # where the tables stood before
        action='store_true',
        help='leave the tables in docs/results.md',
    )
    parser.add_argument('--quiet', action='store_true', help='write the CSVs, print no tables')
    parser.set_defaults(run=build)
    commands = parser.add_subparsers(title='commands', metavar='')
    add_verify(commands)
    text = 'compare two runs'
    diff_command.add_arguments(commands.add_parser('diff', help=text, description=text))
    commands.choices['diff'].set_defaults(run=diff)
    page = commands.add_parser('report', help='make one HTML page: tables, curves, predictions')
    add_inputs(page, default=argparse.SUPPRESS)
    report_command.add_arguments(page)
    page.set_defaults(run=report)
    return parser.parse_args(argv)


def add_inputs(parser: argparse.ArgumentParser, **options: Any) -> None:
    """Where records and published figures are read."""
    sample = 'tables of the embedded sample'
    parser.add_argument('--sample', action='store_true', help=sample, **options)
    records = 'default: results/[sample/]records'
    parser.add_argument('--records', type=typed, metavar='DIR', help=records, **options)
    options = {'default': PUBLISHED, **options}
    parser.add_argument(
        '--published', type=typed, metavar='CSV', help=f'default: {PUBLISHED}', **options
    )


def add_verify(commands: Any) -> None:
    """The command that compares the tables with their sources."""
    parser = commands.add_parser(
        'verify',
        help='compare the tables with records, files and published figures',
        description='Verify that the tables are what records, files and published figures give.',
        epilog=worded(VERIFY_EPILOG),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    # An option before the command's name is not forgotten behind it.
    add_inputs(parser, default=argparse.SUPPRESS)
    parser.add_argument(
        '--out',
        type=typed,
        metavar='DIR',
        default=argparse.SUPPRESS,
        help='folder of the tables, default: results/[sample]',
    )
    parser.set_defaults(run=verify)


def verify(args: argparse.Namespace) -> int:
    """Compare the tables with their sources."""
    from comad.leaderboard.verify import verify

    found = verify(args.sample, args.records, args.out, args.published)
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
    from comad.leaderboard.build import build_leaderboards
    from comad.leaderboard.outputs import update_page, write_formats
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
    if not args.sample and args.out is None and not args.no_docs:
        for path in update_page(boards.tables):
            print(f'wrote {path}')
    return 1 if boards.refused else 0


def diff(args: argparse.Namespace) -> int:
    """Compare two runs."""
    text, code = diff_command.run(args)
    print(text)
    return code


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
        enter_home()
        return args.run(args)
    except (OSError, ValueError) as error:
        print(f'leaderboard: {error}', file=sys.stderr)
        return 2


if __name__ == '__main__':
    sys.exit(main())
