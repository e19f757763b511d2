"""What the suite measures, in order of value."""

import gc
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch

from comad.benchmark import timing
from comad.benchmark.measure import (
    How,
    conditions,
    load_step,
    measure,
    usual_batch,
    usual_precision,
)
from comad.benchmark.suite.evaluation import evaluation
from comad.benchmark.suite.growth import growth
from comad.benchmark.suite.training import runner_step
from comad.engine.options import RunOptions
from comad.runs.place import FILES
from comad.runs.track import FULL, SAMPLE

COMAD = 'pretrain_configs/comad_tiny.py'
# Kept shares of the other reading of "progressively lighter": 40, 50 and 60 % of the patches.
NARROW = {
    'model.teachers.0.mask_ratio': 0.6,
    'model.teachers.1.mask_ratio': 0.5,
    'model.teachers.2.mask_ratio': 0.4,
}
METHODS = (
    'dmt_tiny',
    'hybrid_distill_tiny',
    'amd_tiny',
    'd_mae_lite_tiny',
    'mae_tiny',
    'mocov3_tiny',
    'ibot_tiny',
    'amd_video_small',
    'videomae_video_small',
)
DISTILLATION = 'distill_configs/imagenet_fbt_swin_tiny_resnet18.py'
CLASSIFICATION = ('linear_comad_tiny', 'finetune_comad_tiny')
# What is typed most, and a command that resolves many configs.
STARTED = (
    'train.py --help',
    'leaderboard.py --help',
    'data.py --help',
    'sweep.py study --sample --dry-run',
)
DENSE = ('seg_configs/upernet_comad_tiny.py', 'det_configs/mask_rcnn_comad_tiny.py')


@dataclass
class Case:
    """What a part knows.

    Attributes:
        device: to measure on.
        sample: whether networks and images are the sample's.
        until: time of ``time.monotonic`` at which it is ended.
        known: parts that were measured before, by name.
        keep: called with a name and figures as soon as there are some.
    """

    device: torch.device
    sample: bool
    until: float
    known: Mapping[str, Any]
    keep: Callable[[str, Any], None]

    @property
    def track(self) -> str:
        """The track whose configs are measured."""
        return SAMPLE if self.sample else FULL

    @property
    def gpu(self) -> bool:
        return self.device.type == 'cuda'

    @property
    def left(self) -> float:
        """Seconds until it is ended."""
        return self.until - time.monotonic()

    def step(self, name: str, config: str, batch: int | None = None, **options: Any) -> None:
        """Measure a config's step and keep it, or why it could not be.

        Args:
            name: that the figures get.
            config: leaf.
            batch: images; None: the config's on a GPU, else 8, of dense tasks 2.
            options: of `How`, and ``student`` and ``cfg_options``; the precision is the config's
                unless it is named.
        """
        of_run = {key: options.pop(key) for key in ('student', 'cfg_options') if key in options}
        run = RunOptions(config, track=self.track, **of_run)
        cfg = load_step(run)
        dense = cfg.run.folder in ('seg', 'det') and not self.gpu
        how = How(
            batch or (2 if dense else usual_batch(cfg, self.device)),
            options.pop('precision', None) or usual_precision(cfg, self.device),
            until=self.until - 0.3 * self.left,
            **options,
        )
        try:
            done = measure(run, cfg, self.device, how, keep=lambda found: self.keep(name, found))
            self.keep(name, done)
        except torch.OutOfMemoryError:
            self.keep(name, {'config': config, 'batch': how.batch, 'skipped': 'not enough memory'})
        # Models lie in cycles with the functions that watch them, compiled code in a cache.
        gc.collect()
        if self.gpu:
            torch.compiler.reset()
            torch.cuda.empty_cache()


class Part(NamedTuple):
    """A part of the suite: its share of the time, and what measures it."""

    weight: float
    measure: Callable[[Case], None]


def conditions_of(case: Case) -> None:
    """Machine, versions and commit."""
    case.keep('conditions', conditions(case.device))


def machine(case: Case) -> None:
    """What nothing on this machine can exceed: matrix products, copies."""
    rates = {'float32': timing.matmul_rate(case.device, torch.float32)}
    case.keep('matmul_tflops', rates)
    rates['bfloat16'] = timing.matmul_rate(case.device, torch.bfloat16)
    case.keep('matmul_tflops', rates)
    gib = 1.0 if case.gpu else 0.25
    count = int(gib * 2**30)

    def on_device() -> Callable[[], object]:
        source = torch.ones(count, dtype=torch.uint8, device=case.device)
        target = torch.empty_like(source)
        return lambda: target.copy_(source)

    copies = {'on the device': timing.copy_rate(on_device, gib, case.device)}
    if case.gpu:
        for name, pinned in (('from pinned memory', True), ('from pageable memory', False)):

            def to_device(pinned: bool = pinned) -> Callable[[], object]:
                source = torch.ones(count, dtype=torch.uint8)
                source = source.pin_memory() if pinned else source
                target = torch.empty(count, dtype=torch.uint8, device=case.device)
                return lambda: target.copy_(source, non_blocking=True)

            copies[name] = timing.copy_rate(to_device, gib, case.device)
    case.keep('copy_gb_per_second', copies)


def comad(case: Case) -> None:
    """CoMAD's step at its own ratios, against the straightforward way and its teachers alone."""
    case.step('40/60/80', COMAD, compile=case.gpu, compare='reference')


def comad_narrow(case: Case) -> None:
    """The same for 40, 50 and 60 % of the patches."""
    case.step('40/50/60', COMAD, compile=case.gpu, compare='reference', cfg_options=NARROW)


def comad_batches(case: Case) -> None:
    """CoMAD's step with other numbers of images."""
    for batch in (256, 1024, 128) if case.gpu else (16, 4):
        spent = time.monotonic()
        case.step(f'batch {batch}', COMAD, batch, compile=case.gpu)
        if case.left < 1.2 * (time.monotonic() - spent):
            return


def runner(case: Case) -> None:
    """CoMAD's training in the Runner: what hooks, logs and data loading add to the step."""
    runner_step(case, COMAD)


def methods(case: Case) -> None:
    """The step of every other method, on a GPU compiled and not."""
    for name in METHODS:
        case.step(name, f'pretrain_configs/{name}.py', rounds=3, compile=case.gpu)
    case.step('fbt', DISTILLATION, rounds=3)


def classification(case: Case) -> None:
    """Linear probe and fine-tuning against timm's network, and the features that k-NN reads."""
    for name in CLASSIFICATION:
        config = f'cls_configs/{name}.py'
        tunes = name.startswith('finetune')
        options = dict(compare='reference', compile=case.gpu) if tunes else {}
        for how, precision in precisions(case):
            case.step(name + how, config, rounds=3, precision=precision, **options)
    case.keep('features', features(case))


def precisions(case: Case) -> list[tuple[str, str | None]]:
    """What a transfer is measured in: as its protocol says, and on a GPU with ``--amp``."""
    return [('', None)] + ([(' --amp', 'bfloat16')] if case.gpu else [])


def features(case: Case) -> dict[str, Any]:
    """Images per second of the frozen student's features, as k-NN and the probes read them."""
    from comad.benchmark.workload import build_model
    from comad.engine.batches import make_batch
    from comad.evaluation.features import POOLS, pooled_features

    cfg = load_step(RunOptions('cls_configs/linear_comad_tiny.py', track=case.track))
    batch = 512 if case.gpu else 32
    model = build_model(cfg, cfg.model).to(case.device).eval()
    data = model.data_preprocessor(make_batch(cfg._cfg_dict.to_dict(), batch, case.device), False)[
        'inputs'
    ]

    @torch.no_grad()
    def work() -> None:
        pooled_features(model.backbone, data, POOLS)

    seconds = timing.interleave({'features': work}, case.device, 3, until=case.until - 2)
    return {'batch': batch, 'seconds_per_step': seconds, 'precision': 'float32'}


def dense(case: Case) -> None:
    """UperNet's and Mask R-CNN's steps against mmseg's and mmdet's parts on a plain timm ViT."""
    import mmdet  # noqa: F401
    import mmseg  # noqa: F401

    for config in DENSE:
        for how, precision in precisions(case):
            name = Path(config).stem + how
            case.step(name, config, compare='reference', rounds=3, precision=precision)


def loader(case: Case) -> None:
    """Images per second of one core, by ways of reading, against torchvision's ImageFolder."""
    from argparse import Namespace

    from comad.benchmark.data import RIVAL, measure, prepare, summarize

    images = 60 if case.left < 60 else 150
    args = Namespace(images=images, root=None, compare='imagefolder')
    with tempfile.TemporaryDirectory(prefix='comad-benchmark-') as folder, timing.threads(1):
        readers, about = prepare(Path(folder), args)
        seconds = measure(readers, images, 3, 0)
    case.keep('ways', summarize(seconds, images, readers, RIVAL))
    case.keep('data', about)
    case.keep('cores', os.cpu_count())


def clips(case: Case) -> None:
    """Clips per second of one core, by ways of reading."""
    from comad.benchmark.clips import measured

    videos = 8 if case.left < 120 else 20
    with tempfile.TemporaryDirectory(prefix='comad-benchmark-') as folder:
        found = measured(Path(folder), videos, 3)
    for name, value in found.items():
        case.keep(name, value)


def start_up(case: Case) -> None:
    """Seconds from typing a command to its end, beside those of importing torch."""
    tools = FILES / 'tools'
    commands = {'import torch': ['-c', 'import torch']}
    for line in STARTED:
        tool, *options = line.split()
        commands[line] = [str(tools / tool), *options]

    def work(arguments: list[str]) -> Callable[[], object]:
        command = [sys.executable, *arguments]
        return lambda: subprocess.run(command, check=True, capture_output=True)

    pieces = {name: work(arguments) for name, arguments in commands.items()}
    cpu = torch.device('cpu')
    case.keep('seconds', timing.interleave(pieces, cpu, 3, until=case.until - 2))


def overlap(case: Case) -> None:
    """What the copy of a batch costs a step, which it runs beside."""
    if not case.gpu:
        raise ModuleNotFoundError('CUDA', name='GPU')
    from comad.benchmark.workload import build

    cfg = load_step(RunOptions(COMAD, track=case.track))
    work = build(cfg, case.device, usual_precision(cfg, case.device), usual_batch(cfg, case.device))
    pinned = work.batch['inputs']
    there = {**work.batch, 'inputs': pinned.to(case.device)}
    pieces = {
        'the copy alone': lambda: pinned.to(case.device, non_blocking=True),
        'a step with it': work.step,
        'a step on images that are there': lambda: work.model.train_step(there, work.wrapper),
    }
    case.keep('seconds', timing.interleave(pieces, case.device, 5, until=case.until - 2))
    case.keep('copy_mb', pinned.nbytes / 1e6)


PARTS: dict[str, Part] = {
    'machine': Part(1, machine),
    'comad': Part(10, comad),
    'runner': Part(7, runner),
    'comad_40_50_60': Part(8, comad_narrow),
    'classification': Part(3, classification),
    'dense': Part(4, dense),
    'comad_batches': Part(6, comad_batches),
    'loader': Part(3, loader),
    'overlap': Part(2, overlap),
    'clips': Part(2, clips),
    'start_up': Part(1, start_up),
    'evaluation': Part(2, evaluation),
    'growth': Part(4, growth),
    'methods': Part(12, methods),
}
