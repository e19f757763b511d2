"""A training of milliseconds in which everything is random, and its losses to the last bit.

torchrun -m tests.engine.resume_toy FOLDER STOP new|resume BATCH_SIZE trains on several processes;
STOP 0 is the end.
"""

import random
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.evaluator import BaseMetric
from mmengine.hooks import Hook
from mmengine.model import BaseModel
from mmengine.registry import DATASETS, METRICS, MODELS
from torch import nn
from torch.utils.data import Dataset

SAVE_EVERY_4 = dict(type='SafeCheckpointHook', by_epoch=False, interval=4, max_keep_ckpts=2)


@DATASETS.register_module(force=True)
class RestlessImages(Dataset):
    """Noise, augmented with the generators of Python, NumPy and torch; notes what is read."""

    metainfo = dict(classes=('a', 'b'))

    def __init__(self, notes: str = '', size: int = 23) -> None:
        self.images = torch.randn(size, 12, generator=torch.Generator().manual_seed(7))
        self.notes = notes

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> dict[str, Any]:
        if self.notes:
            with open(self.notes, 'a') as handle:
                handle.write(f'{index}\n')
        noise = random.random() + np.random.rand() + torch.randn(12)
        return dict(inputs=self.images[index] + 0.3 * noise.float(), labels=torch.tensor(index % 2))

    def get_data_info(self, index: int) -> dict[str, int]:
        """Landscape or portrait, for AspectRatioBatchSampler."""
        return dict(width=8 + index % 3, height=9)


@MODELS.register_module(force=True)
class RestlessModel(BaseModel):
    """Dropout and batch norm."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(12, 16), nn.BatchNorm1d(16), nn.Dropout(0.3), nn.ReLU(), nn.Linear(16, 2)
        )

    def forward(self, inputs: Any, labels: Any = None, mode: str = 'loss') -> Any:
        if isinstance(inputs, list):
            inputs, labels = torch.stack(inputs), torch.stack(labels)
        loss = nn.functional.cross_entropy(self.layers(inputs), labels)
        return dict(loss=loss) if mode == 'loss' else [dict(loss=float(loss))]


@METRICS.register_module(force=True)
class MeanLoss(BaseMetric):
    """Mean validation loss."""

    def process(self, data_batch: Any, data_samples: Any) -> None:
        self.results.extend(sample['loss'] for sample in data_samples)

    def compute_metrics(self, results: list[float]) -> dict[str, float]:
        return dict(mean_loss=float(np.mean(results)))


class Stop(Exception):
    """Ends a run before a chosen step."""


class Observer(Hook):
    """Keeps losses as exact text, validations, and ends the run before step ``stop``."""

    priority = 'VERY_LOW'

    def __init__(self, stop: int | None = None, stop_validation: int | None = None) -> None:
        self.stop, self.stop_validation = stop, stop_validation
        self.losses: dict[int, str] = {}
        self.validated: list[tuple[int, str]] = []

    def before_train_iter(self, runner: Any, batch_idx: int, data_batch: Any = None) -> None:
        if runner.iter == self.stop:
            raise Stop

    def after_train_iter(
        self, runner: Any, batch_idx: int, data_batch: Any = None, outputs: Any = None
    ) -> None:
        self.losses[runner.iter] = float(outputs['loss'].detach()).hex()

    def before_val(self, runner: Any) -> None:
        if runner.iter == self.stop_validation:
            raise Stop

    def after_val_epoch(self, runner: Any, metrics: dict[str, float] | None = None) -> None:
        self.validated.append((runner.iter, repr(sorted((metrics or {}).items()))))


def resume_config(
    work_dir: str | Path,
    *,
    by_epoch: bool = True,
    workers: int = 0,
    sampler: str = 'DefaultSampler',
    batch_size: int = 4,
    checkpoint: dict[str, Any] | None = None,
    accumulate: int = 1,
    validate: bool = False,
    hooks: list[dict[str, Any]] | None = None,
    loader: dict[str, Any] | None = None,
    notes: str = '',
    **changes: Any,
) -> Any:
    """23 images in batches of 4, 18 steps: three epochs of 6, the last batch of each with 3."""
    from mmengine.config import Config

    length = dict(max_epochs=3) if by_epoch else dict(max_iters=18)
    val = dict(
        val_dataloader=dict(
            batch_size=4,
            dataset=dict(type='mmengine.RestlessImages'),
            sampler=dict(type='DefaultSampler', shuffle=False),
            collate_fn=dict(type='default_collate'),
        ),
        val_cfg=dict(type='ValLoop'),
        val_evaluator=dict(type='mmengine.MeanLoss'),
    )
    changes = dict(randomness=dict(seed=3), log_level='ERROR') | changes
    resume_config.count = getattr(resume_config, 'count', 0) + 1
    return Config(
        dict(
            default_scope='mmengine',
            runner_type='BenchmarkRunner',
            experiment_name=f'{Path(work_dir).name}_{resume_config.count}_{id(work_dir)}',
            work_dir=str(work_dir),
            model=dict(type='mmengine.RestlessModel'),
            train_dataloader=dict(
                batch_size=batch_size,
                num_workers=workers,
                dataset=dict(type='mmengine.RestlessImages', notes=notes),
                sampler=dict(type=sampler, shuffle=True),
                collate_fn=dict(type='default_collate'),
                **(loader or {}),
            ),
            train_cfg=dict(by_epoch=by_epoch, val_interval=1 if by_epoch else 5, **length),
            **(val if validate else {}),
            optim_wrapper=dict(
                optimizer=dict(type='AdamW', lr=1e-2), accumulative_counts=accumulate
            ),
            param_scheduler=dict(type='CosineAnnealingLR', by_epoch=False, T_max=18),
            default_hooks=dict(
                checkpoint=checkpoint or SAVE_EVERY_4,
                logger=dict(type='LoggerHook', interval=2),
                step_seed=dict(type='StepSeedHook'),
                wall_time=dict(type='WallTimeHook'),
                plain_checkpoint=dict(type='PlainCheckpointHook'),
            ),
            custom_hooks=hooks or [],
            visualizer=dict(type='Visualizer', vis_backends=[dict(type='LocalVisBackend')]),
            **changes,
        )
    )


def train(config: Any, stop: int | None = None, stop_validation: int | None = None) -> Any:
    """Train until the end or the stop; returns (runner, observer)."""
    import comad.engine.register  # noqa: F401
    from comad.engine.runner import BenchmarkRunner

    runner = BenchmarkRunner.from_cfg(config)
    observer = Observer(stop, stop_validation)
    runner.register_hook(observer)
    try:
        runner.train()
    except Stop:
        del runner.train_loop.dataloader  # ends the workers
    return runner, observer


if __name__ == '__main__':
    place, stop_at, resumed = Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3] == 'resume'
    config = resume_config(
        place,
        launcher='pytorch',
        validate=True,
        resume=resumed,
        batch_size=int(sys.argv[4]),
        log_level='WARNING',
    )
    finished, seen = train(config, stop_at if stop_at else None)
    weights = b''.join(v.numpy().tobytes() for v in finished.model.module.state_dict().values())
    content = dict(weights=weights, losses=seen.losses, validated=seen.validated)
    torch.save(content, place.parent / f'{place.name}_{finished.rank}.pt')
