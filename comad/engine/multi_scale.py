"""From a run's config to that of its test at several scales; nothing here imports torch."""

from __future__ import annotations

from typing import TYPE_CHECKING

from comad.engine.options import ConfigError
from comad.tasks.task import MULTI_SCALE, TASKS

if TYPE_CHECKING:
    from mmengine.config import Config


def use_multi_scale(cfg: Config) -> None:
    """Turn a run's config, in place, into that of its test with ``tta_model`` and ``tta_pipeline``.

    Its record is of a kind of its own, so that it stands beside the single-scale one, and so do
    its log and figure: in the folder ``multi_scale`` of the run.

    Raises:
        ConfigError: a config without these two keys, or a task without such a kind.
    """
    run = cfg.get('run')
    name = run.config if run else cfg.filename
    if not cfg.get('tta_model') or not cfg.get('tta_pipeline'):
        raise ConfigError(
            f'--tta: {name} has no tta_model and tta_pipeline; only segmentation is tested at '
            'several scales, seg_configs/'
        )
    if run:
        if run.kind + MULTI_SCALE not in TASKS:
            raise ConfigError(f'--tta: no task is called {run.kind + MULTI_SCALE!r}')
        run.kind += MULTI_SCALE
        cfg.protocol.name += MULTI_SCALE
        if 'run_record' in cfg.default_hooks:
            cfg.default_hooks.run_record.of_test = True
    cfg.test_dataloader.dataset.pipeline = cfg.tta_pipeline
    hook = dict(type='MultiScaleTestHook', model=cfg.tta_model)
    cfg.default_hooks = {**cfg.get('default_hooks', {}), 'multi_scale': hook}
    cfg.work_dir = f'{cfg.work_dir}/multi_scale'
