"""`LayerWiseDecayConstructor`: optimizer groups for every task, with layer-wise learning rates."""

import re
from collections.abc import Mapping
from typing import Any

from mmengine.logging import MMLogger
from mmengine.model import is_model_wrapper
from mmengine.optim import OptimWrapper
from mmengine.registry import OPTIM_WRAPPER_CONSTRUCTORS, OPTIM_WRAPPERS, OPTIMIZERS
from torch import nn
from torch.nn.modules.batchnorm import _NormBase

from comad.tasks.fields import DECAY_DEFAULTS as DEFAULTS

INPUT_PARAMETERS = ('patch_embed', 'cls_token', 'pos_embed', 'mask_token')
BLOCK = re.compile(r'backbone\.blocks\.(\d+)\.')
INPUT = re.compile(rf'backbone\.({"|".join(INPUT_PARAMETERS)})(\.|$)')


@OPTIM_WRAPPER_CONSTRUCTORS.register_module()
class LayerWiseDecayConstructor:
    """Groups parameters by (learning-rate scale, weight decay) from their names alone.

    ``backbone.patch_embed``, ``cls_token``, ``pos_embed`` and ``mask_token`` are layer 0,
    ``backbone.blocks.N`` is layer N + 1, everything else (final norm, necks, heads, decoders) is
    layer depth + 1. The learning rate of a layer is multiplied by
    ``decay_rate ** (depth + 1 - layer)`` (BEiT, MAE and ViTDet agree on this). The factor is part
    of a group's initial rate, so MMEngine's schedulers keep it, as long as they use
    ``eta_min_ratio``: an absolute ``eta_min`` can lie above the lowest initial rates. It also
    stands in the group as ``lr_scale``. Frozen parameters get no group.

    Args:
        optim_wrapper_cfg: MMEngine's optimizer wrapper config.
        paramwise_cfg: ``decay_rate`` in (0, 1], 1 by default (no layer decay), and the factors on
            the weight decay ``norm_decay_mult`` (normalisation layers and other one-dimensional
            scales), ``bias_decay_mult`` (biases outside of norms), ``pos_embed_decay_mult`` and
            ``cls_token_decay_mult``, all 0 by default: MAE's fine-tuning; ``mask_token_decay_mult``
            of all mask tokens is 1, and 0 in VideoMAE's pretraining. ViTDet decays biases, and
            ``channel_norm_decay_mult``, by default that of all norms, is 1 there: Detectron2 does
            not count its channel-first LayerNorms (pyramid and heads) among the norms.

    Raises:
        ValueError: unknown or impossible ``paramwise_cfg`` entries.
    """

    def __init__(
        self, optim_wrapper_cfg: Mapping[str, Any], paramwise_cfg: Mapping[str, Any] | None = None
    ) -> None:
        options = dict(paramwise_cfg or {})
        unknown = sorted(options.keys() - DEFAULTS.keys())
        if unknown:
            raise ValueError(
                f'paramwise_cfg key {unknown[0]!r} is unknown to LayerWiseDecayConstructor; '
                f'known: {", ".join(DEFAULTS)}'
            )
        self.options = DEFAULTS | options
        if not 0 < self.options['decay_rate'] <= 1:
            raise ValueError(f'decay_rate {self.options["decay_rate"]} must lie in (0, 1]')
        negative = [k for k, v in self.options.items() if v is not None and v < 0]
        if negative:
            raise ValueError(f'{negative[0]} {self.options[negative[0]]} is negative')
        self.optim_wrapper_cfg = dict(optim_wrapper_cfg)
        if 'optimizer' not in self.optim_wrapper_cfg:
            raise ValueError('optim_wrapper needs the key optimizer')
        self.optimizer_cfg = dict(self.optim_wrapper_cfg.pop('optimizer'))
        if 'lr' not in self.optimizer_cfg:
            raise ValueError('optim_wrapper.optimizer needs lr: layers get a multiple of it')

    def __call__(self, model: nn.Module) -> OptimWrapper:
        """Build the optimizer wrapper for a model, wrapped for distributed training or not."""
        if is_model_wrapper(model):
            model = model.module
        groups = self.groups(model)
        scales = [group['lr_scale'] for group in groups]
        MMLogger.get_current_instance().info(
            f'{len(groups)} parameter groups, learning-rate scales {min(scales):.3g} to '
            f'{max(scales):.3g}'
        )
        optimizer = OPTIMIZERS.build({**self.optimizer_cfg, 'params': groups})
        return OPTIM_WRAPPERS.build(
            {'type': 'OptimWrapper', **self.optim_wrapper_cfg},
            default_args=dict(optimizer=optimizer),
        )

    def groups(self, model: nn.Module) -> list[dict[str, Any]]:
        """Parameter groups in order of first appearance.

        Raises:
            ValueError: layer decay without ``backbone.blocks.N``, or nothing to train.
        """
        depth = 1 + max(
            (int(m[1]) for name, _ in model.named_parameters() if (m := BLOCK.match(name))),
            default=-1,
        )
        rate = self.options['decay_rate']
        if rate != 1 and depth == 0:
            raise ValueError(
                f'decay_rate {rate} on {type(model).__name__}, which has no parameters '
                'backbone.blocks.N: every layer would silently train at the full rate'
            )
        base_decay = self.optimizer_cfg.get('weight_decay')
        groups: dict[tuple[float, float], dict[str, Any]] = {}
        for name, parameter in model.named_parameters():
            if not parameter.requires_grad:
                continue
            scale = rate ** (depth + 1 - layer_of(name, depth))
            factor = self._decay_factor(model, name, parameter.ndim)
            group = groups.setdefault((scale, factor), {'params': []})
            group['params'].append(parameter)
            group['lr'] = self.optimizer_cfg['lr'] * scale
            group['lr_scale'] = scale
            if base_decay is not None:
                group['weight_decay'] = base_decay * factor
        if not groups:
            raise ValueError(f'{type(model).__name__} has no trainable parameter')
        return list(groups.values())

    def _decay_factor(self, model: nn.Module, name: str, ndim: int) -> float:
        owner, _, leaf = name.rpartition('.')
        if name in ('backbone.pos_embed', 'backbone.cls_token'):
            return self.options[f'{leaf}_decay_mult']
        if leaf == 'mask_token':
            return self.options['mask_token_decay_mult']
        module = model.get_submodule(owner)
        if is_channel_first(module) and self.options['channel_norm_decay_mult'] is not None:
            return self.options['channel_norm_decay_mult']
        if is_norm(module):
            return self.options['norm_decay_mult']
        if leaf == 'bias' or leaf.endswith('_bias'):
            return self.options['bias_decay_mult']
        return self.options['norm_decay_mult'] if ndim < 2 else 1.0


def layer_of(name: str, depth: int) -> int:
    """Layer number of a parameter: 0 for the input, block + 1, or depth + 1 for the rest."""
    if INPUT.match(name):
        return 0
    block = BLOCK.match(name)
    return int(block[1]) + 1 if block else depth + 1


def is_norm(module: nn.Module) -> bool:
    """Whether a module normalises."""
    known = (nn.LayerNorm, nn.GroupNorm, _NormBase)
    name = type(module).__name__
    return (
        isinstance(module, known) or name.endswith(('Norm', 'Norm2d')) or is_channel_first(module)
    )


def is_channel_first(module: nn.Module) -> bool:
    """Whether a module is a LayerNorm of maps (B, C, H, W), known by its class name only."""
    return type(module).__name__ in ('LayerNorm2d', 'LN2d')
