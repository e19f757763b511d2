"""Seeded random mutations; every outcome has to be success or one line that names the place.

    python -m tests.fuzz --seed 0 --cases 1000

Of each kind so many cases: options of every leaf, a COCO file, label maps, class folders, tar
shards and weight files, one to three mutations each. Everything runs in one process and is built,
read and checked, not trained. A fault is a traceback, a message of several lines or one that names
no file or key, another exit status than 0, 2 or 3, a half-written file, or a program or connection
that was started. Exit code 0: no fault; 1: the faults are listed, with the number that repeats
each (``--only coco:17``).
"""

import argparse
import logging
import os
import sys
import tempfile
import time
import warnings
from collections import Counter
from pathlib import Path

from tests.fuzz import data, options, weights
from tests.fuzz.outcome import Kind, judge

ALL = (options.Options, data.Coco, data.Masks, data.Folders, data.Shards, weights.Checkpoints)
KINDS: dict[str, type[Kind]] = {kind.name: kind for kind in ALL}


def memory() -> str | None:
    """A folder in memory, where there is one: cases are mostly making and removing files."""
    return '/dev/shm' if os.access('/dev/shm', os.W_OK) else None


def run(kind: Kind, seed: int, cases: range) -> tuple[Counter[str], list[str]]:
    """Outcomes by word, and a line for each fault."""
    words: Counter[str] = Counter()
    faults = []
    for number in cases:
        word, fault = judge(kind, seed, number)
        words[word] += 1
        if fault:
            faults.append(f'{kind.name}:{number}: {fault}')
    return words, faults


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog='python -m tests.fuzz',
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument('--seed', type=int, default=0)
    parser.add_argument('--cases', type=int, default=1000, help='of each kind')
    parser.add_argument('--kinds', nargs='+', choices=KINDS, default=list(KINDS))
    parser.add_argument('--only', metavar='KIND:NUMBER', help='one case, with its traceback')
    args = parser.parse_args(argv)
    warnings.simplefilter('ignore')
    logging.disable(logging.WARNING)
    # libjpeg's own remarks on damaged files, past Python's stderr.
    sys.stderr = os.fdopen(os.dup(2), 'w')
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
    found = 0
    with tempfile.TemporaryDirectory(prefix='fuzz-', dir=memory()) as folder:
        if args.only:
            name, _, number = args.only.partition(':')
            word, fault = judge(KINDS[name](Path(folder)), args.seed, int(number), loud=True)
            print(fault or word)
            return int(fault is not None)
        for name in args.kinds:
            start = time.monotonic()
            kind = KINDS[name](Path(folder) / name)
            words, faults = run(kind, args.seed, range(args.cases))
            shown = ', '.join(f'{count} {word}' for word, count in sorted(words.items()))
            print(
                f'{name:12} {args.cases} cases in {time.monotonic() - start:.0f} s: {shown}',
                flush=True,
            )
            print(*faults, sep='\n', end='\n' if faults else '')
            found += len(faults)
    print(f'{found} faults')
    return int(found > 0)


if __name__ == '__main__':
    sys.exit(main())
