"""The transfers as one would build them from mmseg, mmdet and a plain timm ViT."""

import copy
import itertools
from typing import Any

import timm
import torch
from mmengine.config import Config
from mmengine.registry import MODELS
from torch import Tensor, nn

from backbones.architectures import vits
from comad.benchmark.workload import Workload, build_model, wrap
from comad.engine.batches import image_size


def timm_vit(arch: str, size: int, **options: Any) -> nn.Module:
    """timm's VisionTransformer with the numbers of one of our architectures, for larger images."""
    numbers = {**vits()[arch], 'img_size': size, **options}
    return timm.models.VisionTransformer(qkv_bias=True, **numbers)


@MODELS.register_module()
class PlainTimmViT(nn.Module):
    """timm's ViT as a dense backbone: raw block outputs as maps, global attention everywhere.

    Args:
        arch: name of one of our architectures.
        size: edge of the images in pixels.
        out_indices: blocks whose outputs are returned.
        drop_path_rate: stochastic depth.
    """

    def __init__(
        self, arch: str, size: int, out_indices: tuple[int, ...], drop_path_rate: float = 0.0
    ) -> None:
        super().__init__()
        self.vit = timm_vit(arch, size, num_classes=0, drop_path_rate=drop_path_rate)
        self.out_indices = list(out_indices)

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """Maps (B, D, H / p, W / p)."""
        return tuple(
            self.vit.forward_intermediates(
                images, indices=self.out_indices, norm=False, intermediates_only=True
            )
        )


def stock(cfg: Config, ours: Workload, precision: str) -> tuple[Workload, str]:
    """The same training step from stock parts, on the same batch, and a line that names them."""
    if cfg.model.type == 'ImageClassifier':
        model, text = _classifier(cfg, ours.model), "timm's VisionTransformer with its own head"
    else:
        model, text = _dense(cfg)
    device = next(ours.model.parameters()).device
    config = copy.deepcopy(cfg)
    # The names of rates per layer belong to our backbone; as many groups cost the same time.
    for key in ('constructor', 'paramwise_cfg'):
        config.optim_wrapper.pop(key, None)
    model = model.to(device).train()
    wrapper = wrap(config, model, precision)
    divide(wrapper.optimizer, [len(group['params']) for group in ours.wrapper.param_groups])
    return Workload(model, wrapper, ours.batch, ours.images), text


def check_stock(cfg: Config) -> None:
    """Refuse a kind of model without a stock form.

    Raises:
        ValueError: there is none.
    """
    if cfg.model.type != 'ImageClassifier' and not {'decode_head', 'roi_head'} & set(cfg.model):
        raise ValueError(f'{cfg.model.type}: there is no stock form to compare with')


def divide(optimizer: torch.optim.Optimizer, counts: list[int]) -> None:
    """Divide the parameters of an optimizer that has not been used into groups of these numbers.

    The last one takes what is left.
    """
    parameters = [p for group in optimizer.param_groups for p in group['params']]
    settings = {key: x for key, x in optimizer.param_groups[0].items() if key != 'params'}
    ends = list(itertools.accumulate(counts[:-1]))
    pairs = zip([0, *ends], [*ends, len(parameters)], strict=True)
    groups = [parameters[start:end] for start, end in pairs]
    optimizer.param_groups = [{**settings, 'params': group} for group in groups if group]


def _classifier(cfg: Config, ours: nn.Module) -> nn.Module:
    """Our classifier with timm's own forward pass instead of backbone, pooling and head."""
    model = copy.deepcopy(ours)
    backbone = cfg.model.backbone
    network = timm_vit(
        backbone.arch,
        ours.backbone.patch_embed.img_size[0],
        num_classes=cfg.model.num_classes,
        global_pool='avg' if ours.pool == 'mean' else 'token',
        drop_path_rate=backbone.get('drop_path_rate', 0.0),
    )
    for name in ('fc_norm', 'head'):
        setattr(model, name, nn.Identity())
    model.backbone = network
    model._scores = network.forward
    return model


def _dense(cfg: Config) -> tuple[nn.Module, str]:
    config = copy.deepcopy(cfg.model)
    old = config.backbone
    config.backbone = dict(
        type='PlainTimmViT',
        arch=old.arch,
        size=image_size(cfg._cfg_dict.to_dict()),
        out_indices=tuple(old.out_indices),
        drop_path_rate=old.get('drop_path_rate', 0.0),
    )
    if 'decode_head' not in config:
        return build_model(
            cfg, config
        ), "timm's ViT with global attention; neck and heads are equal"
    config.neck = dict(
        type='Feature2Pyramid',
        embed_dim=vits()[old.arch]['embed_dim'],
        rescales=[4, 2, 1, 0.5],
        norm_cfg=dict(type='BN'),
    )
    return build_model(cfg, config), "timm's ViT and mmseg's Feature2Pyramid; the heads are equal"
