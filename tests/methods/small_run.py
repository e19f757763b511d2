"""A pretraining of seconds through the suite's Runner, on a folder of coloured images.

torchrun -m tests.methods.small_run FOLDER runs the methods of FOLDER/models.pt, by name.
"""

import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

BACKBONE = dict(type='MaskedViT', arch='sample_tiny', img_size=32, embed_dim=32, depth=2)
PROBE = dict(type='OnlineProbeHook', interval=2, bank=20, queries=11, k=5, resize=32)


def write_images(folder: Path, per_class: int = 24) -> None:
    """Two classes, bluish and reddish noise of 40 x 36 px."""
    generator = np.random.default_rng(0)
    for label, channel in (('blue', 2), ('red', 0)):
        (folder / 'train' / label).mkdir(parents=True, exist_ok=True)
        for index in range(per_class):
            pixels = generator.integers(0, 120, (36, 40, 3), dtype=np.uint8)
            pixels[..., channel] += 120
            Image.fromarray(pixels).save(folder / 'train' / label / f'{index}.png')


def small_config(folder: Path, run: str, model: dict[str, Any], **changes: Any) -> Any:
    """A config for `BenchmarkRunner`: 48 images, batch 8, 3 epochs; hooks by keyword."""
    from mmengine.config import Config

    if not (folder / 'images').exists():
        write_images(folder / 'images')
    hooks = {
        'checkpoint': dict(type='SafeCheckpointHook', interval=1, max_keep_ckpts=2),
        'logger': dict(type='LoggerHook', interval=2),
        'step_seed': dict(type='StepSeedHook'),
        'wall_time': dict(type='WallTimeHook'),
        'plain_checkpoint': dict(type='PlainCheckpointHook'),
        'prepare_method': dict(type='PrepareMethodHook'),
        **changes.pop('hooks', {}),
    }
    return Config(
        dict(
            default_scope='mmengine',
            runner_type='BenchmarkRunner',
            work_dir=str(folder / run),
            experiment_name=f'{folder.name}_{run}_{len(changes)}',
            model=dict(
                backbone=BACKBONE, data_preprocessor=dict(type='ImageDataPreprocessor'), **model
            ),
            train_dataloader=dict(
                batch_size=8,
                num_workers=0,
                dataset=dict(
                    type='ImageNetFolder',
                    root=str(folder / 'images'),
                    views=dict(type='SingleView', size=32, flip=0.0),
                ),
                sampler=dict(type='DefaultSampler', shuffle=True),
                collate_fn=dict(type='pseudo_collate'),
            ),
            train_cfg=dict(by_epoch=True, max_epochs=3),
            optim_wrapper=dict(optimizer=dict(type='AdamW', lr=1e-3)),
            default_hooks=hooks,
            visualizer=dict(
                type='Visualizer',
                vis_backends=[dict(type='LocalVisBackend'), dict(type='TensorboardVisBackend')],
            ),
            randomness=dict(seed=3),
            log_level='INFO',
            **changes,
        )
    )


def run(config: Any) -> Any:
    import comad.engine.register  # noqa: F401
    from comad.engine.runner import BenchmarkRunner

    runner = BenchmarkRunner.from_cfg(config)
    runner.train()
    return runner


if __name__ == '__main__':
    place = Path(sys.argv[1])
    for name, method in torch.load(place / 'models.pt').items():
        hooks = dict(probe=PROBE)
        finished = run(small_config(place, name, method, hooks=hooks, launcher='pytorch'))
        model = finished.model.module
        tensors = (*model.parameters(), *model.buffers())
        digest = sum(float(tensor.double().sum()) for tensor in tensors)
        history = finished.message_hub.get_info('online_probe')
        print(f'{name}: rank {finished.rank}: {digest:.10f} {history[-1]}', flush=True)
