"""Feature pyramids on plain ViT maps, and the check that every part agrees about their strides.

Whatever the patch size, the outputs have the strides the heads assume. With the usual fixed
adapters (x4, x2, x1, x0.5) a patch of 8 px yields strides 2/4/8/16 while anchors and RoI
extractors keep counting 4/8/16/32: training runs, and the boxes are wrong.

Shape letters: B images, C channels, h and w the backbone's map, p patch size, s output stride.
"""

import math
from collections.abc import Sequence
from typing import Any

import torch.nn.functional as F
from mmengine.registry import MODELS
from torch import Tensor, nn

SEGMENTATION_STRIDES = (4, 8, 16, 32)


@MODELS.register_module()
class LayerNorm2d(nn.LayerNorm):
    """LayerNorm over the channels of (B, C, H, W), eps 1e-6 as in ViTDet (arXiv:2203.16527).

    Usable as ``norm_cfg=dict(type='LayerNorm2d', eps=1e-6)`` in heads too; the eps must be given
    there, since mmcv fills in 1e-5 otherwise.
    """

    def __init__(self, channels: int, eps: float = 1e-6) -> None:
        super().__init__(channels, eps=eps)

    def forward(self, x: Tensor) -> Tensor:
        """Normalise every pixel's channel vector; the shape (B, C, H, W) is kept."""
        return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


NORMS = {
    'BN': nn.BatchNorm2d,
    'SyncBN': nn.SyncBatchNorm,
    'LayerNorm2d': LayerNorm2d,
}


class Standardize(nn.SyncBatchNorm):
    """Batch norm of (B, C, h, w) without scale and shift.

    Channels of frozen features differ in size and have means well above their deviations, which
    slows what is trained on them; MAE's linear probe has the same layer before its classifier.
    """

    def __init__(self, channels: int) -> None:
        super().__init__(channels, affine=False)


@MODELS.register_module()
class MultiLevelPyramid(nn.Module):
    """Rescales one ViT map per level to that level's stride; the width stays.

    For 16-px patches these are the adapters of BEiT and MAE segmentation: deconv-norm-GELU-deconv,
    deconv, identity, max-pool (BEiT's released code; arXiv:2106.08254 gives no layer list). Other
    patch sizes use more or fewer of the same parts, see `rescale`.

    Args:
        in_channels: Width of the maps.
        out_channels: Output width; another one than ``in_channels`` adds a 1x1 convolution.
        patch_size: Patch size p of the backbone, px.
        strides: Output strides, one per input map.
        norm_cfg: Norm between two deconvolutions: ``type`` BN, SyncBN or LayerNorm2d, and its
            arguments.
        standardize: Bring each channel of the input to mean 0 and deviation 1, see `Standardize`.
    """

    def __init__(
        self,
        in_channels: int,
        patch_size: int,
        out_channels: int | None = None,
        strides: Sequence[int] = SEGMENTATION_STRIDES,
        norm_cfg: dict[str, Any] | None = None,
        standardize: bool = False,
    ) -> None:
        super().__init__()
        out_channels = in_channels if out_channels is None else out_channels
        _check_arguments(type(self).__name__, in_channels, out_channels, patch_size, strides)
        self.in_channels, self.out_channels = in_channels, out_channels
        self.patch_size, self.strides = patch_size, tuple(strides)
        self.levels = nn.ModuleList()
        for stride in self.strides:
            parts, _ = rescale(in_channels, patch_size, stride, norm_cfg or dict(type='SyncBN'))
            if standardize:
                parts.insert(0, Standardize(in_channels))
            if out_channels != in_channels:
                parts.append(nn.Conv2d(in_channels, out_channels, 1))
            self.levels.append(nn.Sequential(*parts))

    def forward(self, maps: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """Maps (B, C, h, w), one per stride -> (B, C', h p / s, w p / s).

        Raises:
            ValueError: the number of maps is not the number of strides.
        """
        if len(maps) != len(self.levels):
            raise ValueError(
                f'MultiLevelPyramid has strides {self.strides} but got {len(maps)} maps: '
                'the backbone needs as many out_indices as there are strides'
            )
        return tuple(level(x).contiguous() for level, x in zip(self.levels, maps, strict=True))


@MODELS.register_module()
class SimpleFeaturePyramid(nn.Module):
    """ViTDet's simple feature pyramid from the last map alone (arXiv:2203.16527, section 3).

    Each level: rescale (deconvolutions halve the width), 1x1 and 3x3 convolution, each followed by
    LayerNorm and without bias. Strides beyond 32 subsample the level before them.

    Args:
        in_channels: Width of the backbone's map.
        out_channels: Width of every output.
        patch_size: Patch size p of the backbone, px.
        strides: Output strides; each one above 32 must double its predecessor.
        standardize: Bring each channel of the input to mean 0 and deviation 1, see `Standardize`.
    """

    def __init__(
        self,
        in_channels: int,
        patch_size: int,
        out_channels: int = 256,
        strides: Sequence[int] = (*SEGMENTATION_STRIDES, 64),
        standardize: bool = False,
    ) -> None:
        super().__init__()
        _check_arguments(type(self).__name__, in_channels, out_channels, patch_size, strides)
        self.in_channels, self.out_channels = in_channels, out_channels
        self.patch_size, self.strides = patch_size, tuple(strides)
        own = [stride for stride in self.strides if stride <= SEGMENTATION_STRIDES[-1]]
        self.extra = len(self.strides) - len(own)
        wanted = tuple(own[-1] * 2**step for step in range(1, self.extra + 1)) if own else ()
        if self.strides[len(own) :] != wanted:
            raise ValueError(
                f'SimpleFeaturePyramid: strides above 32 double the one before, got {strides!r}'
            )
        self.standardize = Standardize(in_channels) if standardize else nn.Identity()
        self.levels = nn.ModuleList()
        for stride in own:
            parts, width = rescale(
                in_channels, patch_size, stride, dict(type='LayerNorm2d'), halve=True
            )
            parts += [
                nn.Conv2d(width, out_channels, 1, bias=False),
                LayerNorm2d(out_channels),
                nn.Conv2d(out_channels, out_channels, 3, padding=1, bias=False),
                LayerNorm2d(out_channels),
            ]
            self.levels.append(nn.Sequential(*parts))

    def forward(self, maps: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """The last of the maps (B, C, h, w) -> one (B, C', h p / s, w p / s) per stride."""
        # Compiled mmcv's RoIAlign takes memory for contiguous; norms over channels leave it not.
        top = self.standardize(maps[-1])
        outputs = [level(top).contiguous() for level in self.levels]
        for _ in range(self.extra):
            outputs.append(F.max_pool2d(outputs[-1], kernel_size=1, stride=2))
        return tuple(outputs)


class Interpolate(nn.Module):
    """Bilinear resize by a factor to the nearest whole number of pixels, at least one."""

    def __init__(self, factor: float) -> None:
        super().__init__()
        self.factor = factor

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, h, w) -> (B, C, h', w')."""
        size = [max(1, round(side * self.factor)) for side in x.shape[-2:]]
        return F.interpolate(x, size=size, mode='bilinear', align_corners=False)


def rescale(
    channels: int, patch_size: int, stride: int, norm_cfg: dict[str, Any], halve: bool = False
) -> tuple[list[nn.Module], int]:
    """Layers that bring a map of stride ``patch_size`` to ``stride``.

    The nearest power of two is learned (2x2 deconvolutions with norm and GELU in between) or
    max-pooled; what is left of a factor such as 14 / 4 = 3.5 = 4 * 0.875 is interpolated (our
    choice: 8 and 32 px need none, and 16 px gives the published layers).

    Args:
        channels: Input width.
        halve: Each deconvolution halves the width (ViTDet) instead of keeping it (BEiT).

    Returns:
        The layers and the output width.
    """
    octaves = round(math.log2(patch_size / stride))
    layers: list[nn.Module] = []
    for step in range(octaves):
        if step:
            layers += [_norm(norm_cfg, channels), nn.GELU()]
        width = channels // 2 if halve else channels
        layers.append(nn.ConvTranspose2d(channels, width, kernel_size=2, stride=2))
        channels = width
    if octaves < 0:
        layers.append(nn.MaxPool2d(kernel_size=2**-octaves, stride=2**-octaves))
    rest = patch_size / stride / 2.0**octaves
    if rest != 1:
        layers.append(Interpolate(rest))
    return layers, channels


def check_strides(model: nn.Module) -> None:
    """Stop if neck, anchors, RoI extractors and backbone do not agree about strides and widths.

    Looks at mmseg segmentors and mmdet detectors whose neck is one of the pyramids here, and at
    nothing else, so it may be called with any built model (also one wrapped for several processes).

    Raises:
        ValueError: with both values in one line.
    """
    model = getattr(model, 'module', model)
    neck = getattr(model, 'neck', None)
    if not isinstance(neck, MultiLevelPyramid | SimpleFeaturePyramid):
        return
    backbone = model.backbone
    _agree('patch_size', backbone.patch_size, 'the neck', neck.patch_size, 'the backbone')
    _agree('width', backbone.embed_dim, 'the neck (in_channels)', neck.in_channels, 'the backbone')
    if hasattr(model, 'decode_head'):
        _agree('strides', SEGMENTATION_STRIDES, 'the neck', neck.strides, 'the segmentation head')
        _agree('maps', len(backbone.out_indices), 'the neck', len(neck.strides), 'the backbone')
    if hasattr(model, 'rpn_head'):
        anchors = tuple(model.rpn_head.prior_generator.strides)
        pairs = tuple((stride, stride) for stride in neck.strides)
        _agree('strides', pairs, 'the anchor generator', anchors, 'the neck')
    for name in ('bbox_roi_extractor', 'mask_roi_extractor'):
        extractors = getattr(getattr(model, 'roi_head', None), name, None) or ()
        cascade = isinstance(extractors, nn.ModuleList | tuple)
        for extractor in extractors if cascade else (extractors,):
            strides = tuple(extractor.featmap_strides)
            _agree('strides', neck.strides[: len(strides)], name, strides, 'the neck')


def _agree(what: str, wanted: object, place: str, found: object, owner: str) -> None:
    if found != wanted:
        raise ValueError(f'{what} of {place} are {found}, but {owner} has {wanted}')


def _norm(norm_cfg: dict[str, Any], channels: int) -> nn.Module:
    options = {key: value for key, value in norm_cfg.items() if key != 'requires_grad'}
    kind = options.pop('type', None)
    if kind not in NORMS:
        raise ValueError(f'norm_cfg type {kind!r} is unknown: one of {", ".join(NORMS)}')
    return NORMS[kind](channels, **options)


def _check_arguments(
    name: str, in_channels: int, out_channels: int, patch_size: int, strides: Sequence[int]
) -> None:
    whole = dict(in_channels=in_channels, out_channels=out_channels, patch_size=patch_size)
    for argument, value in whole.items():
        if not isinstance(value, int) or value < 1:
            raise ValueError(f'{name}: {argument} must be a whole number >= 1, got {value!r}')
    positive = all(isinstance(stride, int) and stride > 0 for stride in strides)
    if not strides or not positive or list(strides) != sorted(set(strides)):
        raise ValueError(f'{name}: strides must be increasing whole numbers >= 1, got {strides!r}')
