"""CoMAD's training in the Runner, for the time that the Runner itself takes."""

import tempfile
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from mmengine.dataset import default_collate
from mmengine.registry import DATASETS, RUNNERS
from torch.utils.data import Dataset

from backbones import untrained_teachers
from comad.benchmark import timing
from comad.benchmark.measure import load_step, usual_batch, usual_precision
from comad.engine.models import unwrapped
from comad.engine.options import RunOptions

# Steps between two lines of the log, and lines; the first is left out: workers start, networks are
# compiled. A CPU takes seconds for a step of full size.
WINDOWS = (10, 6)
FEW = (2, 4)


@DATASETS.register_module()
class CropsInMemory(Dataset):
    """Crops that are there already: loading without reading, decoding and resizing.

    Args:
        size: edge in pixels.
        length: images.
    """

    metainfo: dict[str, Any] = {'classes': ['0']}

    def __init__(self, size: int, length: int) -> None:
        generator = np.random.default_rng(0)
        self.crops = torch.from_numpy(
            generator.integers(0, 256, (64, 3, size, size), dtype=np.uint8)
        )
        self.length = length

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> dict[str, Any]:
        return {'inputs': self.crops[index % len(self.crops)], 'labels': 0}


@DATASETS.register_module()
class Repeated(Dataset):
    """Another data set, over and over: as many images as a training reads, of few files.

    Args:
        dataset: its config.
        length: images.
    """

    def __init__(self, dataset: dict[str, Any], length: int) -> None:
        self.dataset = DATASETS.build(dataset)
        self.metainfo, self.length = self.dataset.metainfo, length

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> dict[str, Any]:
        return self.dataset[index % len(self.dataset)]


def runner_step(case: Any, config: str) -> None:
    """Keep seconds per step, data wait and utilisation of a training as users start it.

    Once with crops that lie in memory, for what Runner, hooks and log lines add to the step, which
    is timed by itself afterwards, and once with JPEG files in shards, for what loading them adds.
    """
    for name, files in (('crops in memory', False), ('JPEG in shards, OpenCV', True)):
        with tempfile.TemporaryDirectory(prefix='comad-benchmark-') as folder:
            found, runner = train(case, config, Path(folder), files)
            case.keep(name, found)
            if not files:
                case.keep(name, found | {'bare_seconds_per_step': bare_steps(runner, case)})


def train(case: Any, config: str, folder: Path, files: bool) -> tuple[dict[str, Any], Any]:
    """Figures of one training of a config, see `runner_step`, and its runner."""
    cfg = load_step(RunOptions(config, track=case.track, work_dir=str(folder / 'run')))
    batch = usual_batch(cfg, case.device)
    loader = cfg.train_dataloader
    size = loader.dataset.views.size
    window, windows = WINDOWS if case.gpu or case.sample else FEW
    length = batch * window * windows
    loader.batch_size = batch
    if files:
        loader.dataset.root, loader.dataset.decode = str(_shards(folder)), 'opencv'
        loader.dataset = dict(type='Repeated', dataset=loader.dataset, length=length)
    else:
        loader.dataset = dict(type='CropsInMemory', size=size, length=length)
    if case.gpu:
        from comad.data.pool import usable_cores

        loader.num_workers = usable_cores()
    cfg.train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=1)
    cfg.param_scheduler = []
    cfg.optim_wrapper.dtype = usual_precision(cfg, case.device)
    cfg.default_hooks.logger.interval = window
    for hook in ('online_probe', 'student_export', 'pretrain_figure'):
        cfg.default_hooks.pop(hook)
    cfg.default_hooks.checkpoint.interval = 10**6
    # Their alignment costs as much as many steps, and is fitted before the first.
    cfg.model.n_fit = min(cfg.model.get('n_fit', 2048), 256 if case.gpu or case.sample else 32)
    with untrained_teachers():
        runner = RUNNERS.get(cfg.runner_type).from_cfg(cfg)
        # What the export would count.
        step = case.known.get('comad', {}).get('figures', {}).get('40/60/80', {})
        unwrapped(runner.model).gflop_per_image = step.get('gflop_per_image')
        runner.train()
    history = runner.message_hub.log_scalars
    found = {
        key: [float(x) for x in history[f'train/{key}'].data[0][1:]]
        for key in ('images_per_second', 'data_wait', 'mfu')
        if f'train/{key}' in history
    }
    return {
        'batch': batch,
        'workers': loader.num_workers,
        'steps_per_window': window,
        'precision': cfg.optim_wrapper.dtype,
        'compiled': bool(runner.cfg.get('compile')),
        'seconds_per_step': median([batch / rate for rate in found['images_per_second']]),
        **found,
    }, runner


def bare_steps(runner: Any, case: Any) -> list[float]:
    """Seconds of the same step without loop, hooks and loader, in the same process, afterwards."""
    loader, steps = runner.cfg.train_dataloader, runner.cfg.default_hooks.logger.interval
    batch, crops = loader.batch_size, CropsInMemory(loader.dataset.size, loader.batch_size)
    data = default_collate([crops[number] for number in range(batch)])
    if case.gpu:
        data['inputs'] = data['inputs'].pin_memory()

    def step() -> object:
        return runner.model.train_step(data, runner.optim_wrapper)

    runner.model.train()
    return timing.interleave({'step': step}, case.device, 3, steps, until=case.until)['step']


def _shards(folder: Path) -> Path:
    """Shards of generated JPEG files at short side 256."""
    from comad.benchmark.data_images import write_images
    from comad.data.pack import Reencoding, write_shards

    write_images(folder / 'images', 64)
    write_shards(folder / 'images', folder / 'shards', 'train', reencoding=Reencoding())
    return folder / 'shards'
