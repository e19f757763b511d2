"""A config's training step on made-up data: speed depends neither on weights nor on images."""

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from mmengine.config import Config, ConfigDict
from mmengine.model import revert_sync_batchnorm
from mmengine.optim import OptimWrapper, build_optim_wrapper
from mmengine.registry import MODELS, DefaultScope
from torch import Tensor, nn

from backbones import untrained_teachers
from comad.engine.batches import make_batch


@dataclass
class Workload:
    """A model, its optimizer and one batch.

    Attributes:
        model: on the device, in training mode.
        wrapper: optimizer wrapper, which also decides the precision.
        batch: as a DataLoader would yield it.
        images: in the batch.
    """

    model: nn.Module
    wrapper: OptimWrapper
    batch: dict[str, Any]
    images: int

    def step(self) -> dict[str, Tensor]:
        """One optimizer step, as MMEngine's loops call it."""
        return self.model.train_step(self.batch, self.wrapper)


def build(cfg: Config, device: torch.device, precision: str, batch: int) -> Workload:
    """The step of a resolved config with random weights.

    Args:
        cfg: of a leaf, see ``load_run_config``.
        device: where to run.
        precision: 'float32' or 'bfloat16'.
        batch: images.
    """
    torch.manual_seed(0)
    with untrained_teachers():
        model = build_model(cfg, cfg.model)
    data = make_batch(cfg._cfg_dict.to_dict(), batch, device)
    model = model.to(device).train()
    if hasattr(model, 'fit'):
        with torch.no_grad():
            model.fit(iter([model.data_preprocessor(data, True)['inputs'][:8]]))
    wrapper = wrap(cfg, model, precision)
    if hasattr(model, 'follow'):
        model.follow(wrapper.optimizer)
    return Workload(model, wrapper, data, batch)


def build_model(cfg: Config, model: Mapping[str, Any]) -> nn.Module:
    """A model in the scope of a config, with random weights instead of a student's file."""
    model = ConfigDict(copy.deepcopy(dict(model)))
    if 'init_cfg' in model.backbone:
        model.backbone.init_cfg = None
    with DefaultScope.overwrite_default_scope(cfg.get('default_scope') or 'mmengine'):
        return _without_processes(MODELS.build(model))


def wrap(cfg: Config, model: nn.Module, precision: str) -> OptimWrapper:
    """The config's optimizer for a model, in the precision that is asked for."""
    config = copy.deepcopy(cfg.optim_wrapper)
    config.type, config.dtype = 'AutocastOptimWrapper', precision
    config.pop('accumulative_counts', None)
    return build_optim_wrapper(model, config)


def _without_processes(model: nn.Module) -> nn.Module:
    """SyncBN as BN: one process has nothing to synchronise, and a CPU has no SyncBN."""
    return revert_sync_batchnorm(model)
