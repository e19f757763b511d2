"""Prepare data sets."""

import argparse
import sys
import time
from collections.abc import Callable
from pathlib import Path

from backbones.files import one_line
from backbones.names import meant
from comad.commands.command import command
from comad.runs.place import enter_home, typed, worded

EPILOG = """examples:
  python tools/data.py sample                    # data/sample, what every --sample run reads
  python tools/data.py check imagenet            # is data/imagenet complete and readable?
  python tools/data.py check coco --quick        # names, counts and annotations only
  python tools/data.py check photos              # images of your own, labels or not
  python tools/data.py shard imagenet            # data/imagenet_shards, small and fast to read
"""
SAMPLE = """Write the embedded sample: 64 px scenes of patterned blobs, and handwritten digits.

No download; needs 110 MB. Below --root it has the layouts of the real data sets:

  imagenet/{train,val}/<class>/*.JPEG       6,000 and 4,000 images, one pattern each, 10 classes
  ade/ADEChallengeData2016/...              1,600 and 400 scenes with 1-3 blobs; label 0 = other,
                                            1 = background, 2-11 = patterns
  coco/{train,val}2017, coco/annotations    the same scenes with boxes and masks
  cifar-100-binary/{train,test}.bin         scikit-learn's handwritten digits at 32 px
  contact_sheet.png                         what it looks like
  manifest.json                             seed, version, counts, sha256 of all files

--video writes data/sample_video instead: 1,200 and 400 clips of one moving digit, 130 MB.

  kinetics400/{train,val}.csv, videos/      mp4 files, the label is the digit, 10 classes
  ssv2/{train,val}.csv, frames/             the same as frames, the label is the motion, 8 classes
"""
SAMPLE_EPILOG = """Validation draws anew, and shows digits of other handwriting than training.
Equal seeds give equal bytes. An intact sample is left alone; a damaged or older one, or one with
another seed, is replaced.
"""


CHECK = """Look at every file of a data set, and write DATA/manifest.json.

  imagenet    class folders or tar shards; classes against timm's list; 1,281,167 / 50,000 images
  ade20k      pairs of image and labels, their sizes, label values; 20,210 / 2,000 images
  coco        annotations against images, boxes, masks, categories; 118,287 / 5,000 images
  cifar100    binary version: sizes, labels, classes; 50,000 / 10,000 images
  kinetics400 lists against files, labels; 240,436 / 19,796 videos, of which some may be gone
  ssv2        the same, files or frames; 168,913 / 24,777 videos
  sample      against its own manifest
  a folder    data of your own: images, class folders or CSV, COCO files, masks (docs/own_data.md)

Everything is decoded in parallel, which takes long for ImageNet; --quick looks at names, sizes,
counts and annotations only. The first problems of each kind are shown, all of them are in
DATA/check.txt. Exit status: 0 without problems, 1 with some, 2 without a folder to look at, 130
when stopped.
"""
CHECK_EPILOG = """The manifest holds counts, the checks that were made, and a sha256 over names,
sizes and contents of all files: the same for class folders and shards of their original bytes,
another one for shards whose images were made smaller, which the manifest then says. Run records
cite it. The manifest of a full check is not replaced by one with --quick of the same files.

examples:
  python tools/data.py check imagenet --workers 16
  python tools/data.py check imagenet --root data/imagenet_shards
"""
SHARD = """Pack ImageNet's class folders into uncompressed tar files in WebDataset's layout.

  OUT/classes.txt                 the sorted class folders, one per line: the order of labels
  OUT/train/train-000000.tar      n01440764/n01440764_10026.JPEG  the image
                                  n01440764/n01440764_10026.cls   its label, 0
  OUT/train/shards.json           settings, versions, and a sha256 of every shard
  OUT/val/...                     the same

Images are made smaller: short side 256 px (bicubic with antialias), JPEG quality 90, 4:2:0, RGB,
without metadata; pixels as stored, whatever an EXIF orientation says. Images that are not larger
keep their bytes.
That reads several times faster and needs less than half the disk, but is other data: records name
it, and their rows never share a group with those of the original images. --original packs the
original bytes, whose samples are those of the folders.

Images keep the order of the folders. A run that was stopped goes on with the same command: finished
shards are kept. An image that cannot be read stops it.
"""
SHARD_EPILOG = """Configs read either layout at the same place: make data/imagenet a link to the
shards, or add --cfg-options train_dataloader.dataset.root=data/imagenet_shards. Readers that
stream shards instead of jumping into them have to shuffle by themselves.

examples:
  python tools/data.py shard imagenet --workers 8
  python tools/data.py shard imagenet --original --split val --out /disk/imagenet_original
  python tools/data.py shard sample              # the embedded sample, seconds
"""
# Beside the sample, not inside: its manifest is over all that is in it.
SHARD_ROOTS = {
    'imagenet': ('data/imagenet', 'data/imagenet_shards'),
    'sample': ('data/sample/imagenet', 'data/sample_imagenet_shards'),
}


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    style = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=worded(EPILOG), formatter_class=style
    )
    commands = parser.add_subparsers(dest='command', required=True, metavar='COMMAND')

    def add(
        name: str, short: str, long: str, epilog: str, run: Callable
    ) -> argparse.ArgumentParser:
        command = commands.add_parser(
            name, help=short, description=long, epilog=worded(epilog), formatter_class=style
        )
        command.set_defaults(run=run, stopped='nothing was changed')
        return command

    sample = add(
        'sample',
        'write the embedded sample data (seconds, no download)',
        SAMPLE,
        SAMPLE_EPILOG,
        write_sample,
    )
    sample.add_argument(
        '--root',
        type=typed,
        help='folder to write (default data/sample, or data/sample_video; --sample reads these)',
    )
    sample.add_argument('--video', action='store_true', help='write the clips')
    sample.add_argument('--seed', type=int, default=0, help='of handwriting and scenes (default 0)')
    sample.add_argument('--force', action='store_true', help='write even if it is there already')

    check = add('check', 'check a data set and write its manifest', CHECK, CHECK_EPILOG, check_data)
    names = ('imagenet', 'ade20k', 'coco', 'cifar100', 'kinetics400', 'ssv2', 'sample')
    check.add_argument('name', help=f'one of {", ".join(names)}, or a folder of your own')
    check.add_argument(
        '--root', type=typed, help='its folder DATA (default: where the configs look for it)'
    )
    check.add_argument(
        '--missing-share',
        type=float,
        metavar='S',
        help='share of the videos of each list that may be gone (default 0); the manifest says it',
    )
    check.add_argument('--quick', action='store_true', help='do not read the images')
    add_workers(check)

    shard = add('shard', 'pack ImageNet into tar shards', SHARD, SHARD_EPILOG, shard_data)
    shard.add_argument('name', choices=tuple(SHARD_ROOTS))
    shard.add_argument('--root', type=typed, help='class folders (default data/imagenet)')
    shard.add_argument('--out', type=typed, help='folder to write (default data/imagenet_shards)')
    shard.add_argument(
        '--split', nargs='+', default=['train', 'val'], choices=('train', 'val'), help='both'
    )
    shard.add_argument(
        '--images-per-shard', type=int, default=5000, metavar='N', help='(default %(default)s)'
    )
    size = shard.add_mutually_exclusive_group()
    size.add_argument(
        '--short-side', type=int, default=256, metavar='PX', help='at most (default %(default)s)'
    )
    size.add_argument('--original', action='store_true', help='pack the original bytes')
    shard.add_argument(
        '--quality', type=int, metavar='Q', help='of the smaller JPEG files (default 90)'
    )
    add_workers(shard)
    shard.set_defaults(stopped='finished shards are kept; the same command goes on')
    return parser.parse_args(argv)


def add_workers(command: argparse.ArgumentParser) -> None:
    command.add_argument('--workers', type=int, metavar='N', help='processes (default: all cores)')


def write_sample(args: argparse.Namespace) -> None:
    from comad.data.sample import write as sample

    start = time.monotonic()
    if args.video:
        from comad.data.sample import videos

        root = args.root or Path(videos.ROOT)
        written = videos.write_video_sample(
            root, args.seed, force=args.force, progress=Progress('clips')
        )
        seconds = f'in {time.monotonic() - start:.0f} s' if written else 'already'
        print(f'{root} is complete {seconds}: seed {args.seed}, version {videos.VERSION}')
        return
    from comad.data.pool import usable_cores

    args.root = args.root or Path(sample.SAMPLE_ROOT)
    options = dict(force=args.force, workers=usable_cores(), report=print)
    written = sample.write_sample(args.root, args.seed, progress=Progress('images'), **options)
    if written:
        manifest = sample.read_manifest(args.root)
        print(f'wrote {manifest["files"]} files in {time.monotonic() - start:.0f} s to {args.root}')
        print(f'what it looks like: {args.root}/{sample.CONTACT_SHEET}')
    else:
        print(f'{args.root} is complete: seed {args.seed}, version {sample.SAMPLE_VERSION}')


def check_data(args: argparse.Namespace) -> None:
    from comad.data.check import run
    from comad.data.check.own import OwnCheck
    from comad.data.check.run import TERMS
    from comad.data.identity import ROOTS
    from comad.data.pool import usable_cores

    if args.name not in ROOTS:
        root = Path(typed(args.name))
        if root.is_file():
            raise ValueError(
                f'{args.name}: a file; a check is of the folder that holds it and its images, and '
                '--data takes that folder too'
            )
        if args.root or not root.is_dir():
            known = ', '.join(ROOTS)
            raise FileNotFoundError(
                f'{args.name}: no such folder{meant(args.name, ROOTS)}; a check is of a folder of '
                f'yours, without --root, or of one of {known}'
            )
    else:
        root = Path(args.root or ROOTS[args.name])
        print(TERMS[args.name])
    workers = usable_cores() if args.workers is None else args.workers
    options = dict(workers=workers, quick=args.quick, progress=Progress('files'))
    videos = args.name in ('kinetics400', 'ssv2')
    if args.missing_share is not None and not videos:
        raise ValueError('--missing-share is for kinetics400 and ssv2')
    share = dict(missing_share=args.missing_share or 0.0) if videos else {}
    if args.name == 'sample':
        outcome = run.check_sample(root, **options)
    else:
        kind = run.CHECKS.get(args.name, OwnCheck)
        outcome = run.check_dataset(kind(root, **share), **options)
    print('\n'.join(outcome.lines()))
    if outcome.findings.total:
        raise ValueError(outcome.summary())
    print(outcome.summary())


def shard_data(args: argparse.Namespace) -> None:
    from comad.data.manifest import check_writable
    from comad.data.pack import Reencoding, write_shards
    from comad.data.pool import usable_cores

    if args.original and args.quality is not None:
        raise ValueError('--quality beside --original: original bytes have the quality they have')
    quality = {} if args.quality is None else {'quality': args.quality}
    reencoding = None if args.original else Reencoding(args.short_side, **quality)
    root, out = (
        Path(given or default)
        for given, default in zip((args.root, args.out), SHARD_ROOTS[args.name], strict=True)
    )
    check_writable(out)
    workers = usable_cores() if args.workers is None else args.workers
    for split in dict.fromkeys(args.split):
        progress = Progress(f'images of {split}')
        written = write_shards(
            root,
            out,
            split,
            args.images_per_shard,
            workers,
            progress,
            report=print,
            reencoding=reencoding,
        )
        print(f'{out / split}: {written} shards written')


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
        text = f'{left:.0f} s left' if left < 100 else f'{left / 60:.0f} min left'
        if done < total and now - self.start < 2:  # workers are still starting
            text = 'started'
        end = '\r' if self.live and done < total else '\n'
        print(f'{done:,} of {total:,} {self.what}, {text}  ', end=end, flush=True)


@command
def main(argv: list[str] | None = None) -> int:
    args = parse_args(argv)
    try:
        enter_home()
        args.run(args)
    except (OSError, RuntimeError, ValueError) as error:
        # A file's name may hold anything.
        print(f'data {args.command}: {one_line(error)}', file=sys.stderr)
        return 2 if isinstance(error, FileNotFoundError) else 1
    except KeyboardInterrupt:
        print(f'data {args.command}: stopped; {args.stopped}', file=sys.stderr)
        return 130
    return 0


if __name__ == '__main__':
    sys.exit(main())
