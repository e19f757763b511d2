"""The command ``report`` of tools/leaderboard.py: its options and what it does."""

import argparse
from pathlib import Path

from comad.runs.place import typed, worded

EPILOG = """examples:
  python tools/leaderboard.py report             # results/report.html
  python tools/leaderboard.py report --sample    # results/sample/report.html
  python tools/leaderboard.py report --records DIR --root DIR --out FILE    # somebody else's

One file below 1 MB without outside resources; open it in a browser. Curves, results per class and
pictures come from the runs' folders: what is not on this machine is named in the page.
Exit code 1: a record or a published row was refused; it is named, the page is made.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what the command takes beside the folders of the tables' inputs."""
    parser.description = 'Make one self-contained HTML page of the tables and what the runs left.'
    parser.epilog = worded(EPILOG)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument(
        '--out',
        type=typed,
        metavar='FILE',
        default=argparse.SUPPRESS,
        help='the page, default: results/[sample/]report.html',
    )
    parser.add_argument(
        '--root',
        type=typed,
        metavar='DIR',
        default=Path(),
        help='folder that holds work_dirs, default: here',
    )


def run(args: argparse.Namespace) -> tuple[str, list[str]]:
    """Write the page; return what there is to say, and one line for all that was refused."""
    from comad.leaderboard.build import RESULTS, SAMPLE_RESULTS, make_leaderboards
    from comad.leaderboard.published import read_published
    from comad.report.page import write_report

    boards = make_leaderboards(args.sample, args.records, published=args.published)
    figures = [] if args.sample else read_published(args.published).accepted
    out = args.out or (SAMPLE_RESULTS if args.sample else RESULTS) / 'report.html'
    path = write_report(boards, out, args.sample, args.root, figures)
    return f'wrote {path} ({path.stat().st_size / 1000:.0f} kB)', boards.refused
