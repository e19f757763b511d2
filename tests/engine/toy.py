"""A seconds-long training through the suite's Runner, on random images."""

import os
import sys
import time

import torch
from mmengine.hooks import Hook
from mmengine.model import BaseModel
from mmengine.registry import DATASETS, HOOKS, MODELS
from torch import nn
from torch.utils.data import Dataset

from backbones import build_teacher


@DATASETS.register_module(force=True)
class ToyImages(Dataset):
    """Seeded noise whose label is the sign of its mean."""

    def __init__(self, size: int = 16) -> None:
        self.images = torch.randn(size, 3, 64, 64, generator=torch.Generator().manual_seed(7))

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> dict:
        image = self.images[index]
        return dict(inputs=image, labels=torch.tensor(int(image.mean() > 0)))


@MODELS.register_module(force=True)
class ToyModel(BaseModel):
    """A backbone, an optional teacher and a head; drops random patches, so randomness matters."""

    def __init__(self, backbone: dict, teacher: dict | None = None) -> None:
        super().__init__()
        self.backbone = MODELS.build(backbone)
        self.head = nn.Sequential(
            nn.Linear(self.backbone.embed_dim, 8), nn.BatchNorm1d(8), nn.Linear(8, 2)
        )
        self.teachers = nn.ModuleList([build_teacher(**teacher)] if teacher else [])

    def forward(self, inputs, labels=None, mode='loss'):
        keep = torch.rand(len(inputs), 64).argsort(1)[:, :16]
        logits = self.head(self.backbone.tokens(inputs, keep)[:, 0])
        return dict(loss=nn.functional.cross_entropy(logits, labels))


@HOOKS.register_module(force=True)
class SlowSteps(Hook):
    """Lets steps last for as long as a file is there."""

    def __init__(self, path: str) -> None:
        self.path = path

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        time.sleep(0.2 if os.path.exists(self.path) else 0)


def toy_config(
    work_dir, *, epochs=2, teacher=None, init_cfg=None, scope='mmengine', **changes
) -> dict:
    """A config for `BenchmarkRunner`; 16 images, batch 4."""
    from mmengine.config import Config

    return Config(
        dict(
            default_scope=scope,
            runner_type='BenchmarkRunner',
            work_dir=str(work_dir),
            model=dict(
                type='mmengine.ToyModel',
                teacher=teacher,
                backbone=dict(type='MaskedViT', arch='sample_tiny', init_cfg=init_cfg),
            ),
            train_dataloader=dict(
                batch_size=4,
                num_workers=0,
                dataset=dict(type='mmengine.ToyImages'),
                sampler=dict(type='DefaultSampler', shuffle=True),
                collate_fn=dict(type='default_collate'),
            ),
            train_cfg=dict(by_epoch=True, max_epochs=epochs),
            optim_wrapper=dict(optimizer=dict(type='AdamW', lr=1e-3)),
            param_scheduler=dict(
                type='CosineAnnealingLR', by_epoch=True, convert_to_iter_based=True
            ),
            default_hooks=dict(
                checkpoint=dict(type='SafeCheckpointHook', interval=1, max_keep_ckpts=2),
                step_seed=dict(type='StepSeedHook'),
                wall_time=dict(type='WallTimeHook'),
                preemption=dict(type='PreemptionHook'),
                plain_checkpoint=dict(type='PlainCheckpointHook'),
            ),
            visualizer=dict(type='Visualizer', vis_backends=[dict(type='LocalVisBackend')]),
            randomness=dict(seed=3),
            log_level='WARNING',
            **changes,
        )
    )


def run(config):
    import comad.engine.register  # noqa: F401
    from comad.engine.runner import BenchmarkRunner

    runner = BenchmarkRunner.from_cfg(config)
    runner.train()
    return runner


if __name__ == '__main__':  # torchrun -m tests.engine.toy WORK_DIR
    finished = run(toy_config(sys.argv[1], launcher='pytorch', experiment_name='two'))
    digest = sum(float(p.double().sum()) for p in finished.model.parameters())
    print(f'rank {finished.rank} of {finished.world_size}: {digest:.12f}')
