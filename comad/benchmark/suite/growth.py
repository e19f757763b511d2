"""What grows with files, records and processes, at a tenth of ImageNet's, ADE20K's and COCO's size.

Evaluations run in one process and in two, of one core each, over gloo; their figures have to be
equal. Data are generated.
"""

import io
import itertools
import json
import multiprocessing
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
import torch.distributed as dist
from torch import Tensor

from comad.benchmark import tables, timing
from comad.benchmark.suite.evaluation import (
    MAP_CLASSES,
    NEIGHBOURS,
    WIDTH,
    draw_detections,
    draw_maps,
)

if TYPE_CHECKING:
    from comad.benchmark.suite.parts import Case

ROUNDS = 3
MEGABYTE = 1e6
BLOCK = 1000  # features drawn at a time


class Sizes(NamedTuple):
    """How much of everything there is.

    Attributes:
        files: of class folders.
        epoch: images whose order is drawn; the whole of ImageNet.
        records: of a leaderboard.
        checkpoints: megabytes.
        bank: features that k-NN compares with.
        queries: features that are compared.
        maps: label maps, of 512 x 683 pixels.
        images: of a hundred detections each.
    """

    files: int = 128_117
    epoch: int = 1_281_167
    records: int = 1000
    checkpoints: tuple[int, ...] = (70, 130, 630)
    bank: int = 128_000
    queries: int = 1000
    maps: int = 200
    images: int = 500


SMALL = Sizes(1000, 10_000, 20, (1,), 2000, 100, 4, 8)


class Cost(NamedTuple):
    """Seconds, and megabytes that the work needed; of several processes the most of any."""

    seconds: float
    megabytes: float | None = None


Work = Callable[[], Cost]
# Of a rank and the number of processes: makes what is asked about, and returns who asks.
Asking = Callable[[int, int], Callable[[], object]]


def growth(case: 'Case') -> None:
    """Round by round, each figure kept as soon as it is there."""
    # Before the forks: what is imported is nobody's own memory.
    import mmdet  # noqa: F401
    import mmseg  # noqa: F401

    sizes = SMALL if case.sample else Sizes()
    found: dict[str, dict[str, Any]] = {}
    with timing.threads(1), tempfile.TemporaryDirectory(prefix='comad-benchmark-') as folder:
        works = list(_works(Path(folder), sizes))
        for _ in range(ROUNDS):
            began = time.monotonic()
            for name, of, work in works:
                cost = work()
                figure = found.setdefault(name, {'of': of, 'seconds': []})
                figure['seconds'].append(cost.seconds)
                if cost.megabytes is not None:
                    figure['megabytes'] = max(cost.megabytes, figure.get('megabytes', 0.0))
                case.keep(name, figure)
            if case.left < time.monotonic() - began:
                return


def _works(folder: Path, sizes: Sizes) -> Iterator[tuple[str, str, Work]]:
    """Name, size and measurement of each figure, in order of value."""
    for name, of, asking in (
        ('k-NN', f'{sizes.queries:,} queries, {sizes.bank:,} images', _neighbours(sizes)),
        ('mIoU', f'{sizes.maps:,} maps of 512 x 683 pixels', _areas(sizes.maps)),
        ('AP of boxes and masks', f'{sizes.images:,} images of 100', _detections(folder, sizes)),
    ):
        told: list[object] = []
        for processes in (1, 2):

            def work(processes: int = processes, asking: Asking = asking, told: Any = told) -> Cost:
                return together(processes, asking, folder, told)

            yield f'{name}, {"one process" if processes == 1 else "each of two"}', of, work
    root = folder / 'imagenet'
    _write_files(root, sizes.files)
    yield 'class folders listed at a start', f'{sizes.files:,} files', lambda: _listed(root)
    for name, skip in (('first batch of an epoch', 0), ('the same, resumed in its middle', 0.5)):
        of = f'{sizes.epoch:,} images'
        yield name, of, lambda skip=skip: _first_batch(sizes.epoch, skip)
    for size in sizes.checkpoints:
        name = f'a checkpoint of {size} MB'
        yield name, 'serialised, written, synced', lambda size=size: _checkpoint(folder, size)
    records = folder / 'records'
    _write_records(records, sizes.records)
    for name, arguments in (
        ('leaderboard', ('--out', folder / 'tables', '--quiet')),
        ('report', ('report', '--root', folder, '--out', folder / 'report.html')),
    ):
        command = [*arguments, '--records', records]
        yield name, f'{sizes.records:,} records', lambda command=command: _command(command)


def together(processes: int, asking: Asking, folder: Path, told: list[object]) -> Cost:
    """The cost of an evaluation in so many processes.

    Args:
        processes: of one core each.
        asking: see `Asking`; what it makes counts as memory, not as time.
        folder: where they meet.
        told: figures of earlier calls, which these have to equal; they are added.

    Raises:
        RuntimeError: a process failed, or figures differ.
    """
    context = multiprocessing.get_context('fork')
    members, pipes = [], []
    with tempfile.TemporaryDirectory(dir=folder) as place:
        meeting = f'file://{place}/meeting'
        for rank in range(processes):
            ours, theirs = context.Pipe(duplex=False)
            member = context.Process(
                target=_member, args=(rank, processes, asking, meeting, theirs), daemon=True
            )
            member.start()
            theirs.close()
            members.append(member)
            pipes.append(ours)
        try:
            answers = [pipe.recv() for pipe in pipes]
        except EOFError:
            raise RuntimeError('a process of an evaluation failed') from None
        finally:
            for member in members:
                member.kill()
                member.join()
    told += [figures for *_, figures in answers]
    if any(figures != told[0] for figures in told):
        raise RuntimeError(f'processes come to different figures: {told}')
    seconds, megabytes, _ = zip(*answers, strict=True)
    return Cost(max(seconds), max(megabytes))


def _member(rank: int, world: int, asking: Asking, meeting: str, pipe: Connection) -> None:
    """One process of an evaluation; it is ended by the one that started it."""
    dist.init_process_group('gloo', init_method=meeting, rank=rank, world_size=world)
    cpu = torch.device('cpu')
    # A fork's peak begins with what it shares at that time.
    before = timing.peak_memory_gib(cpu)
    work = asking(rank, world)
    dist.barrier()
    began = time.perf_counter()
    figures = work()
    seconds = time.perf_counter() - began
    grown = (timing.peak_memory_gib(cpu) - before) * 2**30 / MEGABYTE
    dist.barrier()
    pipe.send((seconds, grown, figures))
    time.sleep(60)  # one that closes its group while others still use it would abort them


def _neighbours(sizes: Sizes) -> Asking:
    """k-NN: of the bank's blocks and of the queries a process has its share."""

    def drawn(blocks: list[int], rows: int) -> Tensor:
        made = torch.empty(len(blocks) * rows, WIDTH)
        for row, block in zip(made.split(rows), blocks, strict=True):
            torch.randn(rows, WIDTH, generator=torch.Generator().manual_seed(block), out=row)
            row /= row.norm(dim=1, keepdim=True)
        return made

    def asking(rank: int, world: int) -> Callable[[], object]:
        from comad.evaluation.knn import nearest_of_all

        bank = drawn(list(range(sizes.bank // BLOCK))[rank::world], BLOCK)
        classes = torch.zeros(len(bank), dtype=torch.long)
        share = sizes.queries // world
        queries = drawn([10**6], sizes.queries)[rank * share : (rank + 1) * share]

        def work() -> object:
            nearest = [
                nearest_of_all(part, bank, classes, max(NEIGHBOURS), 65536)[0].double().sum()
                for part in queries.split(50)
            ]
            total = torch.stack(nearest).sum()
            dist.all_reduce(total)
            return round(float(total), 1)

        return work

    return asking


def _areas(maps: int) -> Asking:
    """mIoU, as UperNet's transfer computes it."""
    drawn = [draw_maps(seed) for seed in range(4)]

    def asking(rank: int, world: int) -> Callable[[], object]:
        from mmengine.evaluator import Evaluator

        evaluator = Evaluator(dict(type='PairIoUMetric', iou_metrics=['mIoU']))
        evaluator.dataset_meta = dict(classes=tuple(map(str, range(MAP_CLASSES))))

        def work() -> object:
            for number in range(rank, maps, world):
                found, truth = (dict(data=x[None]) for x in drawn[number % len(drawn)])
                evaluator.process([dict(pred_sem_seg=found, gt_sem_seg=truth)])
            return evaluator.evaluate(maps)

        return work

    return asking


def _detections(folder: Path, sizes: Sizes) -> Asking:
    """COCO's figures, as Mask R-CNN's transfer computes them, of masks that are encoded already."""
    from comad.evaluation import encode_masks

    few = 4 if sizes is SMALL else 20
    samples, truth = draw_detections(few)
    for sample in samples:
        sample['pred_instances']['masks'] = encode_masks(sample['pred_instances']['masks'])
    entries = []
    for number in range(sizes.images):
        own = [e for e in truth['annotations'] if e['image_id'] == number % few + 1]
        entries += [{**e, 'image_id': number + 1} for e in own]
    truth['annotations'] = [{**entry, 'id': i} for i, entry in enumerate(entries, 1)]
    size = {key: truth['images'][0][key] for key in ('width', 'height', 'file_name')}
    truth['images'] = [{'id': number + 1, **size} for number in range(sizes.images)]
    path = folder / 'instances.json'
    path.write_text(json.dumps(truth))

    def asking(rank: int, world: int) -> Callable[[], object]:
        from mmengine.evaluator import Evaluator

        metric = dict(type='ColumnCocoMetric', ann_file=str(path), metric=['bbox', 'segm'])
        evaluator = Evaluator(metric)
        names = tuple(category['name'] for category in truth['categories'])
        evaluator.dataset_meta = dict(classes=names)

        def work() -> object:
            for number in range(rank, sizes.images, world):
                evaluator.process([{**samples[number % few], 'img_id': number + 1}])
            return evaluator.evaluate(sizes.images)

        return work

    return asking


def _write_files(root: Path, count: int) -> None:
    """Class folders of empty files, named as ImageNet's; a thousand of them, or fewer."""
    per_class = -(-count // 1000)
    for index in range(count):
        name = f'n{index // per_class:08d}'
        if index % per_class == 0:
            (root / 'train' / name).mkdir(parents=True)
        os.close(os.open(root / 'train' / name / f'{name}_{index}.JPEG', os.O_CREAT))


def _in_fork(work: Callable[[], object]) -> Cost:
    """The cost of work in a process of its own, whose memory nothing else has used before."""
    folder = Path(tempfile.gettempdir())
    return together(1, lambda rank, world: lambda: work() is None, folder, [])


def _listed(root: Path) -> Cost:
    from comad.data.storage import open_storage

    return _in_fork(lambda: open_storage(root, 'train'))


def _first_batch(images: int, skip: float) -> Cost:
    from mmengine.dataset import DefaultSampler

    from comad.engine.exact_data import ResumableBatchSampler

    batch = 512
    order = ResumableBatchSampler(DefaultSampler(range(images), shuffle=True, seed=0), batch, True)
    order.begin(0, int(skip * images / batch))
    return _in_fork(lambda: next(iter(order)))


def _checkpoint(folder: Path, megabytes: int) -> Cost:
    """Serialised, written with its digest and synced, as a training does it."""
    from comad.engine.checkpoint_files import write_verified

    state = {'weight': torch.zeros(int(megabytes * MEGABYTE / 4))}

    def work() -> object:
        buffer = io.BytesIO()
        torch.save(state, buffer)
        write_verified(folder / 'checkpoint.pth', buffer.getvalue())
        return True

    return _in_fork(work)


def _write_records(place: Path, count: int) -> None:
    from comad.runs.record import write_record

    for record in itertools.islice(tables.made_up(), count):
        write_record(place, record)


def _command(arguments: list[Any]) -> Cost:
    """A whole leaderboard command, from typing to its end."""
    began = time.perf_counter()
    tables.call(*arguments)
    return Cost(time.perf_counter() - began)
