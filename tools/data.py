#!/usr/bin/env python
"""Prepare data sets."""

import argparse
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

EPILOG = """examples:
  python tools/data.py sample                    # data/sample, what every --sample run reads
  python tools/data.py sample --root /tmp/s --seed 1
"""
SAMPLE = """Write the embedded sample: 64 px scenes of scikit-learn's handwritten digits.

No download; needs 75 MB. Below --root it has the layouts of the real data sets:

  imagenet/{train,val}/<class>/*.JPEG       6,000 and 4,000 images, one digit each, 10 classes
  ade/ADEChallengeData2016/...              1,600 and 400 scenes with 1-3 digits; label 0 = other,
                                            1 = background, 2-11 = digits 0-9
  coco/{train,val}2017, coco/annotations    the same scenes with boxes and masks
  contact_sheet.png                         what it looks like
  manifest.json                             seed, version, counts, sha256 of all files
"""
SAMPLE_EPILOG = """Validation shows digits of other handwriting than training. Equal seeds
give equal bytes. An intact sample is left alone; a damaged or older one, or one with another
seed, is replaced.
"""


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    style = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, epilog=EPILOG, formatter_class=style)
    commands = parser.add_subparsers(dest='command', required=True, metavar='COMMAND')
    sample = commands.add_parser(
        'sample',
        help='write the embedded sample data (seconds, no download)',
        description=SAMPLE,
        epilog=SAMPLE_EPILOG,
        formatter_class=style,
    )
    sample.add_argument(
        '--root', default='data/sample', help='folder to write (default %(default)s, for --sample)'
    )
    sample.add_argument('--seed', type=int, default=0, help='of handwriting and scenes (default 0)')
    sample.add_argument('--force', action='store_true', help='write even if it is there already')
    sample.set_defaults(run=write_sample)
    return parser.parse_args(argv)


def write_sample(args: argparse.Namespace) -> None:
    from comad.datasets import sample

    start = time.monotonic()
    written = sample.write_sample(
        args.root, args.seed, force=args.force, progress=Progress('images'), report=print
    )
    if written:
        manifest = sample.read_manifest(args.root)
        print(f'wrote {manifest["files"]} files in {time.monotonic() - start:.0f} s to {args.root}')
        print(f'what it looks like: {args.root}/{sample.CONTACT_SHEET}')
    else:
        print(f'{args.root} is complete: seed {args.seed}, version {sample.SAMPLE_VERSION}')


class Progress:
    """Prints done, total and the time left: a living line on a terminal, few lines in a log."""

    def __init__(self, what: str) -> None:
        self.what, self.start = what, time.monotonic()
        self.live = sys.stdout.isatty()
        self.last = self.start

    def __call__(self, done: int, total: int) -> None:
        now = time.monotonic()
        if done < total and now - self.last < (0.2 if self.live else 5):
            return
        self.last = now
        left = (now - self.start) / done * (total - done)
        end = '\r' if self.live and done < total else '\n'
        print(f'{done:,} of {total:,} {self.what}, {left:.0f} s left  ', end=end, flush=True)


def main(argv: list[str] | None = None) -> int:
    args = parse_args(argv)
    try:
        args.run(args)
    except (OSError, RuntimeError, ValueError) as error:
        print(f'data {args.command}: {error}', file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(f'data {args.command}: stopped; nothing was changed', file=sys.stderr)
        return 130
    return 0


if __name__ == '__main__':
    sys.exit(main())
