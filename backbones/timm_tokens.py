"""`TimmTokens`: the token contract on any network that timm builds, ViT or not.

Three kinds. Plain ViTs (CLIP, SigLIP, DeiT, ...) and those with rotary positions (EVA-02, DINOv3)
leave patches out before the first block. Every other network (Swin, ConvNeXt, ResNet, ...) sees
the whole image; its tokens are the cells of its last map.
"""

from collections.abc import Sequence
from typing import Any

import timm
import torch
from timm.data.constants import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD
from timm.layers import apply_keep_indices_nlc
from timm.models.eva import Eva
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from .names import meant

# Sides of the image by which the stride of a network without patches is found.
PROBE = 128


class TimmTokens(nn.Module):
    """A timm network as a `TokenNetwork`.

    The first token is the class token; of a network without one what it pools its tokens to by
    attention (SigLIP), else the mean of the tokens that are returned.

    Args:
        model: timm's name, e.g. ``vit_base_patch16_dinov3``.
        mean, std: Statistics that its images are normalised by; timm's for the name by default.
        overrides: Further arguments of ``timm.create_model`` (img_size, ...).

    Attributes:
        drops: Whether hidden patches are left out, and never computed.
        any_size: Whether it takes images of other sizes than its own.
        patch_size: Edge in pixels of a patch or of a cell of the last map.

    Raises:
        ValueError: no such model, or one without tokens on a square grid.
    """

    def __init__(
        self,
        model: str,
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
        **overrides: Any,
    ) -> None:
        super().__init__()
        self.net, self.any_size = _create(model, overrides)
        net = self.net
        self.drops = isinstance(net, (VisionTransformer, Eva))
        self.num_prefix: int = getattr(net, 'num_prefix_tokens', 0)
        self.embed_dim: int = net.num_features
        own = getattr(net, 'pretrained_cfg', None) or {}
        size = overrides.get('img_size') or own.get('input_size', (3, 224, 224))[-1]
        size = size if isinstance(size, int) else size[-1]
        if self.drops:
            grid = tuple(net.patch_embed.grid_size)
            self.patch_size: int = net.patch_embed.patch_size[0]
        else:
            probe = PROBE if self.any_size else size
            self.patch_size = probe // self._side(model, probe)
            grid = (size // self.patch_size,) * 2
        self.img_size: int = grid[0] * self.patch_size
        self.grid_size: tuple[int, int] = grid
        self.num_patches: int = grid[0] * grid[1]
        self.licence: str = own.get('license') or 'not stated by timm'
        # Exact arithmetic for the common case: no factor, no shift.
        self.statistics = _relative(mean or own['mean'], std or own['std'])

    def tokens(
        self, images: Tensor, keep: Tensor | None = None, layers: list[int] | None = None
    ) -> Tensor | list[Tensor]:
        """As `MaskedViT.tokens`; images are normalised by ImageNet's statistics.

        ViTs that pool patches (``fc_norm``) have their last norm applied to every token. ``layers``
        are blocks of networks that leave patches out; others have none to choose from.
        """
        if self.statistics is not None:
            scale, shift = (images.new_tensor(v).view(3, 1, 1) for v in self.statistics)
            images = images * scale + shift
        if not self.drops:
            if layers is not None:
                raise ValueError(f'{type(self.net).__name__} is read after its last stage only')
            return self._with_first(*self._cells(images), keep)
        outputs = self._blocks(images, keep, layers)
        if layers is None:
            return self._first_of(self.net.fc_norm(self.net.norm(outputs[-1])))
        return [self._first_of(outputs[layer]) for layer in layers]

    def _blocks(
        self, images: Tensor, keep: Tensor | None, layers: list[int] | None
    ) -> dict[int, Tensor]:
        """Raw outputs (B, T, D) of the blocks that are read, under -1 the last one's."""
        net, prefix, rope = self.net, self.num_prefix, None
        x = net._pos_embed(net.patch_embed(images))
        if isinstance(net, Eva):
            x, rope = x
        if keep is not None:
            kept = x[:, prefix:].gather(1, keep[..., None].expand(-1, -1, x.shape[-1]))
            x = torch.cat([x[:, :prefix], kept], dim=1)
            if rope is not None:
                rope = apply_keep_indices_nlc(x, rope, keep)
                mixed = getattr(net, 'rope_mixed', False)  # one table for each block
                rope = rope.transpose(0, 1) if mixed else rope.unsqueeze(1)
        x, outputs = net.norm_pre(x), {}
        for number, block in enumerate(net.blocks):
            if isinstance(net, Eva):
                own = rope[number] if getattr(net, 'rope_mixed', False) else rope
                x = block(x, rope=own)
            else:
                x = block(x)
            if layers is not None and number in layers:
                outputs[number] = x
        return outputs | {-1: x}

    def _first_of(self, x: Tensor) -> Tensor:
        """(B, 1 + n, D) of all tokens, registers left out."""
        patches = x[:, self.num_prefix :]
        if getattr(self.net, 'cls_token', None) is not None:
            return torch.cat([x[:, :1], patches], dim=1)
        pool = getattr(self.net, 'attn_pool', None)
        return _with_mean(patches, None if pool is None else pool(patches))

    def _cells(self, images: Tensor) -> tuple[Tensor | None, Tensor]:
        """Class token (B, D), if there is one, and all places (B, N, D) in raster order."""
        x = self.net.forward_features(images)
        if x.dim() == 3:
            first = x[:, 0] if getattr(self.net, 'cls_token', None) is not None else None
            return first, x[:, self.num_prefix :]
        if getattr(self.net, 'output_fmt', 'NCHW') == 'NHWC':
            return None, x.flatten(1, 2)
        norm = getattr(getattr(self.net, 'head', None), 'norm', None)
        # ConvNeXt normalises behind its pooling; cells are normalised one by one.
        x = norm(x) if norm is not None else x
        return None, x.flatten(2).transpose(1, 2)

    def _with_first(self, first: Tensor | None, cells: Tensor, keep: Tensor | None) -> Tensor:
        if keep is not None:
            cells = cells.gather(1, keep[..., None].expand(-1, -1, cells.shape[-1]))
        return _with_mean(cells, first)

    @torch.no_grad()
    def _side(self, model: str, size: int) -> int:
        """Places per row that an image of this edge becomes."""
        self.net.eval()
        try:
            places = self._cells(torch.zeros(1, 3, size, size))[1]
            side = round(places.shape[1] ** 0.5)
        except (RuntimeError, AttributeError, AssertionError, IndexError) as error:
            raise ValueError(f'model={model!r} gives no tokens or maps: {error}') from None
        if side * side != places.shape[1] or places.shape[2] != self.embed_dim:
            raise ValueError(
                f'model={model!r} gives {tuple(places.shape[1:])} tokens; a square grid of '
                f'{self.embed_dim} wide ones is needed'
            )
        return side


def _create(model: str, overrides: dict[str, Any]) -> tuple[nn.Module, bool]:
    """The network without classifier, and whether it takes images of any size.

    Raises:
        ValueError: timm has no such model, or not with these arguments.
    """
    if not timm.is_model(model):
        near = meant(model, timm.list_models())
        raise ValueError(
            f'timm cannot build model={model!r}: no such name{near}; see timm.list_models()'
        )
    module = timm.models.model_entrypoint(model.partition('.')[0]).__module__.rpartition('.')[2]
    flexible = module in ('vision_transformer', 'deit', 'eva', 'vision_transformer_hybrid')
    fixed = not flexible and bool(
        timm.get_pretrained_cfg(model) and timm.get_pretrained_cfg(model).fixed_input_size
    )
    options = {'dynamic_img_size': True, **overrides} if flexible else overrides
    try:
        net = timm.create_model(model, pretrained=False, num_classes=0, **options)
    except (RuntimeError, TypeError, ValueError, AssertionError) as error:
        raise ValueError(f'timm cannot build model={model!r}: {error}') from None
    if not hasattr(net, 'forward_features') or not hasattr(net, 'num_features'):
        raise ValueError(f'model={model!r} is a {type(net).__name__}, which gives no features')
    return net, not fixed


def _with_mean(cells: Tensor, first: Tensor | None) -> Tensor:
    """Tokens (B, n, D) behind a first one (B, D), by default their mean."""
    first = cells.mean(1) if first is None else first
    return torch.cat([first[:, None], cells], dim=1)


def _relative(mean: Sequence[float], std: Sequence[float]) -> tuple | None:
    """Factor and shift that take ImageNet's normalisation to a model's own; None if equal."""
    if tuple(mean) == IMAGENET_DEFAULT_MEAN and tuple(std) == IMAGENET_DEFAULT_STD:
        return None
    pairs = zip(mean, std, IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD, strict=True)
    scale, shift = zip(*((t / s, (n - m) / s) for m, s, n, t in pairs), strict=True)
    return scale, shift
