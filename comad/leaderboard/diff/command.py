"""The command ``tools/leaderboard.py diff``: its options, and what it prints."""

import argparse
import json
from pathlib import Path

from comad.leaderboard.diff.names import RECORDS, find_run
from comad.leaderboard.diff.runs import compare_runs
from comad.leaderboard.diff.text import format_runs
from comad.runs.place import typed, worded

EPILOG = """examples:
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


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what the command takes."""
    parser.epilog = worded(EPILOG)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument('a', metavar='A', help='record, run folder or TASK_STUDENT')
    parser.add_argument('b', metavar='B', help='the same')
    parser.add_argument(
        '--records',
        type=typed,
        metavar='DIR',
        help='default: results/records, results/sample/records',
    )
    parser.add_argument(
        '--figure', type=typed, metavar='FILE', help='draw the curves: .svg, .png or .pdf'
    )
    parser.add_argument('--json', action='store_true', help='print JSON instead of text')


def run(args: argparse.Namespace) -> tuple[str, int]:
    """Compare; return what is to be printed and the exit code, 0 for equal and 1 for different.

    Raises:
        ValueError: If the two cannot be compared, or there is nothing to draw.
    """
    folders = (Path(args.records),) if args.records else RECORDS
    found = compare_runs(find_run(args.a, folders), find_run(args.b, folders))
    if args.figure:
        from comad.leaderboard.diff.curves import draw_curves

        draw_curves(*found.drawn, found.names, args.figure)
    if args.json:
        text = json.dumps(found.as_dict(), indent=1, sort_keys=True, allow_nan=False)
    else:
        text = format_runs(found)
        text += f'\nwrote {args.figure}' if args.figure else ''
    return text, 0 if found.equal else 1
