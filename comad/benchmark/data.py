"""Images per second that one core, or a data loader, reads, decodes and crops.

All ways of reading are measured in one process, one after the other in every round and in another
order each time, so that a machine that is slower for a while is slower for all of them. Ratios are
taken within a round.
"""

import argparse
import json
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

SIZE, SCALE = 224, (0.2, 1.0)
BATCH = 64
RIVAL = 'ImageFolder, Pillow'
Way = Callable[[list[int]], None]


class Reader(NamedTuple):
    """A way of reading: its data set, whose items differ, and the mean size of its files."""

    dataset: Any
    mean_bytes: float


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the measurement."""
    parser.add_argument(
        '--compare',
        choices=('imagefolder',),
        help="measure torchvision's ImageFolder with Pillow beside",
    )
    parser.add_argument(
        '--images', type=int, default=500, metavar='N', help='in every round (default %(default)s)'
    )
    parser.add_argument('--rounds', type=int, default=5, metavar='N', help='(default %(default)s)')
    parser.add_argument(
        '--root', help='class folders with train/ to read (default: generated images of 110 KB)'
    )
    parser.add_argument(
        '--workers',
        type=int,
        default=0,
        metavar='N',
        help='measure a DataLoader of N workers with uint8 batches (default: none, one core)',
    )
    parser.add_argument(
        '--clips',
        action='store_true',
        help='clips of generated videos by reader; --images counts videos then, give some 20',
    )
    parser.add_argument('--json', metavar='FILE', help='write figures and conditions there as well')


def run(args: argparse.Namespace) -> int:
    """Measure, print the table and the conditions; returns the exit status."""
    for name, least in (('images', 1), ('rounds', 1), ('workers', 0)):
        if getattr(args, name) < least:
            raise ValueError(
                f'--{name.replace("_", "-")} {getattr(args, name)}: expected {least} or more'
            )
    if args.clips:
        from comad.benchmark import clips

        return clips.run(args)
    from comad.benchmark.data_report import conditions, table
    from comad.benchmark.timing import threads

    with tempfile.TemporaryDirectory(prefix='comad-benchmark-') as folder, threads(1):
        readers, data = prepare(Path(folder), args)
        seconds = measure(readers, args.images, args.rounds, args.workers)
        known = {**conditions(), 'workers': args.workers, 'rounds': args.rounds, **data}
    result = {
        'conditions': known,
        'ways': summarize(seconds, args.images, readers, RIVAL if args.compare else None),
    }
    sys.stdout.write(table(result) + '\n')
    if args.json:
        Path(args.json).write_text(json.dumps(result, indent=1) + '\n', encoding='utf-8')
    return 0


def prepare(folder: Path, args: argparse.Namespace) -> tuple[dict[str, Reader], dict[str, Any]]:
    """The ways of reading, and what the images are.

    Shards of short side 256 are made of as many images as a round reads, in ``folder``.
    """
    from comad.benchmark.data_images import write_images
    from comad.data.imagenet import ImageNetFolder
    from comad.data.pack import Reencoding, write_shards

    if args.root:
        root = folder / 'given'
        link_images(Path(args.root), root, args.images)
        data: dict[str, Any] = {'data': str(args.root), 'images': args.images}
    else:
        root = folder / 'generated'
        made = write_images(root, args.images)
        data = {
            'data': 'generated, 500 x 375 px, 1/f noise with shapes',
            'images': made.images,
            'jpeg_quality': made.quality,
        }
    shards = folder / 'shards'
    write_shards(root, shards, 'train', reencoding=Reencoding())
    views = dict(type='SingleView', size=SIZE, scale=SCALE)
    readers = {}
    if args.compare:
        readers[RIVAL] = Reader(_image_folder(root / 'train'), 0.0)
    for place, name in ((root, 'class folders'), (shards, 'shards, short side 256')):
        for decode in ('pillow', 'opencv'):
            dataset = ImageNetFolder(place, views=views, decode=decode)
            readers[f'{name}, {decode}'] = Reader(dataset, _mean_bytes(dataset))
    if args.compare:
        original = readers['class folders, pillow'].mean_bytes
        readers[RIVAL] = readers[RIVAL]._replace(mean_bytes=original)
    data['mean_kb'] = round(readers['class folders, pillow'].mean_bytes / 1000, 1)
    return readers, data


def link_images(source: Path, root: Path, count: int) -> None:
    """Links to ``count`` images of ``source/train``, spread over it, as a root of their own.

    Raises:
        ValueError: there are fewer, or the images are in shards.
    """
    from comad.data.storage import ImageFiles, open_storage

    storage = open_storage(source, 'train')
    if not isinstance(storage, ImageFiles):
        raise ValueError(f'--root {source}: holds {storage.kind}, expected class folders')
    if len(storage) < count:
        raise ValueError(f'--root {source}: holds {len(storage):,} images, --images {count:,}')
    for number in range(count):
        path = Path(storage.path(number * len(storage) // count))
        link = root / 'train' / path.parent.name / path.name
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(path.resolve())


def measure(
    readers: dict[str, Reader], images: int, rounds: int, workers: int
) -> dict[str, list[float]]:
    """Seconds of every way in every round; each way reads all images once, in random order."""
    draw = random.Random(0)
    ways = {name: _loader(reader, workers) for name, reader in readers.items()}
    seconds: dict[str, list[float]] = {name: [] for name in readers}
    # Files into the system's cache, tables and workers into being.
    for way in ways.values():
        way(list(range(images)))
    for _ in range(rounds):
        order = draw.sample(range(images), images)
        for name in draw.sample(list(ways), len(ways)):
            start = time.perf_counter()
            ways[name](order)
            seconds[name].append(time.perf_counter() - start)
    return seconds


def summarize(
    seconds: dict[str, list[float]], images: int, readers: dict[str, Reader], rival: str | None
) -> list[dict[str, Any]]:
    """One entry per way: median images per second, and the ratios to the rival within a round."""
    entries = []
    for name, times in seconds.items():
        entry: dict[str, Any] = {
            'way': name,
            'images_per_second': images / statistics.median(times),
            'slowest': images / max(times),
            'fastest': images / min(times),
            'mean_kb': readers[name].mean_bytes / 1000,
        }
        if rival:
            ratios = [other / own for other, own in zip(seconds[rival], times, strict=True)]
            entry |= {
                'ratio': statistics.median(ratios),
                'ratio_min': min(ratios),
                'ratio_max': max(ratios),
            }
        entries.append(entry)
    return entries


def _image_folder(folder: Path) -> Any:
    """What most trainings read ImageNet with."""
    from torchvision.datasets import ImageFolder
    from torchvision.transforms import InterpolationMode, v2

    crop = v2.RandomResizedCrop(SIZE, SCALE, interpolation=InterpolationMode.BICUBIC)
    return ImageFolder(folder, v2.Compose([crop, v2.RandomHorizontalFlip(), v2.PILToTensor()]))


def _loader(reader: Reader, workers: int) -> Way:
    """Reads samples in this process, or batches through a data loader with workers."""
    if not workers:

        def read(order: list[int]) -> None:
            for index in order:
                reader.dataset[index]

        return read
    from torch.utils.data import DataLoader

    order: list[int] = []
    loader = DataLoader(
        reader.dataset, BATCH, sampler=order, num_workers=workers, persistent_workers=True
    )

    def load(wanted: list[int]) -> None:
        order[:] = wanted
        for _ in loader:
            pass

    return load


def _mean_bytes(dataset: Any) -> float:
    sizes = [len(dataset.storage.read(index)) for index in range(len(dataset))]
    return sum(sizes) / len(sizes)
