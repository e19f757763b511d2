"""`TimmTokens`: the token contract on timm's plain ViTs with a class token (CLIP, DeiT, ...)."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import timm
import torch
from timm.data.constants import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from .checkpoints import CheckpointError
from .contents import find_networks

CLASSIFIER = re.compile(r'(head|head_dist)\.')


class TimmTokens(nn.Module):
    """A timm VisionTransformer that can leave patches out, a `TokenNetwork`.

    Args:
        model: timm's name, e.g. ``vit_base_patch16_clip_224.openai``.
        overrides: Further arguments of ``timm.create_model`` (img_size, ...).

    Raises:
        ValueError: no such model, or one without class token or of another kind.
    """

    def __init__(self, model: str, **overrides: Any) -> None:
        super().__init__()
        try:
            vit = timm.create_model(
                model, pretrained=False, num_classes=0, dynamic_img_size=True, **overrides
            )
        except (RuntimeError, TypeError) as error:
            if 'dynamic_img_size' in str(error):
                error = 'it is no plain ViT; one with a class token is needed'
            raise ValueError(f'timm cannot build model={model!r}: {error}') from None
        if not isinstance(vit, VisionTransformer) or vit.cls_token is None:
            raise ValueError(
                f'model={model!r} is a {type(vit).__name__}: a ViT with class token is needed'
            )
        self.vit = vit
        self.embed_dim: int = vit.embed_dim
        self.grid_size: tuple[int, int] = tuple(vit.patch_embed.grid_size)
        self.patch_size: int = vit.patch_embed.patch_size[0]
        self.num_patches: int = vit.patch_embed.num_patches
        self.licence: str = vit.pretrained_cfg.get('license') or 'not stated by timm'
        # Exact arithmetic for the common case: no factor, no shift.
        self.statistics = _relative(vit.pretrained_cfg['mean'], vit.pretrained_cfg['std'])

    def tokens(
        self, images: Tensor, keep: Tensor | None = None, layers: list[int] | None = None
    ) -> Tensor | list[Tensor]:
        """As `MaskedViT.tokens`; images are normalised by ImageNet's statistics.

        Models that pool patches (``fc_norm``) have their last norm applied to every token.
        """
        vit, prefix = self.vit, self.vit.num_prefix_tokens
        if self.statistics is not None:
            scale, shift = (images.new_tensor(v).view(3, 1, 1) for v in self.statistics)
            images = images * scale + shift
        x = vit._pos_embed(vit.patch_embed(images))
        if keep is not None:
            kept = x[:, prefix:].gather(1, keep[..., None].expand(-1, -1, x.shape[-1]))
            x = torch.cat([x[:, :prefix], kept], dim=1)
        x, raw = vit.norm_pre(x), []
        for block in vit.blocks:
            x = block(x)
            raw.append(x)
        outputs = [vit.fc_norm(vit.norm(x))] if layers is None else [raw[layer] for layer in layers]
        outputs = [torch.cat([out[:, :1], out[:, prefix:]], dim=1) for out in outputs]
        return outputs[0] if layers is None else outputs

    def select(self, content: Mapping[str, Any], path: Path) -> dict[str, Tensor]:
        """The tensors of a file in timm's layout, its classifier left out.

        Raises:
            CheckpointError: no such network in it.
        """
        networks = find_networks(content)
        for name in ('file', 'model', 'state_dict'):
            if name in networks:
                tensors = networks[name].tensors
                return {k: v for k, v in tensors.items() if not CLASSIFIER.match(k)}
        raise CheckpointError(f'{path} does not look like a timm file: expected bare tensors')


def _relative(mean: tuple[float, ...], std: tuple[float, ...]) -> tuple | None:
    """Factor and shift that take ImageNet's normalisation to a model's own; None if equal."""
    if tuple(mean) == IMAGENET_DEFAULT_MEAN and tuple(std) == IMAGENET_DEFAULT_STD:
        return None
    pairs = zip(mean, std, IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD, strict=True)
    scale, shift = zip(*((t / s, (n - m) / s) for m, s, n, t in pairs), strict=True)
    return scale, shift
