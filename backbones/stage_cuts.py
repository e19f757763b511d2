"""Where the four stages of timm's classifiers lie, and how each part of a network is run.

The cuts are those of OFA-KD (arXiv:2310.19444 and its code), whose outputs are raw, before norms:
ResNets and ConvNeXts their four stages, MobileNetV2 after blocks 1, 2, 4 and its last convolution,
Swin its four stages, ViTs and MLPs after 2, 4, 10 and 12 of 12 blocks.

Shapes: B images, C channels, D width, H and W a map, N patches, T tokens (class token first),
K classes.
"""

import math
from abc import ABC, abstractmethod
from typing import Any, NamedTuple

from timm.models.convnext import ConvNeXt
from timm.models.efficientnet import EfficientNet
from timm.models.mlp_mixer import MlpMixer
from timm.models.repvit import RepVit
from timm.models.resnet import ResNet
from timm.models.swin_transformer import SwinTransformer
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from .staged_table import CNN, TOKEN

# Shares of a plain network's blocks that the first three stages end at: 2, 4 and 10 of 12.
SHARES = (1 / 6, 1 / 3, 5 / 6)


class Tail(NamedTuple):
    """What stage 4 and the classifier give.

    ``stage`` is stage 4, ``pooled`` (B, D) the mean over its places after the final norm,
    ``penultimate`` (B, D) what the classifier reads, ``logits`` (B, K).
    """

    stage: Tensor
    pooled: Tensor
    penultimate: Tensor
    logits: Tensor


class Stages(NamedTuple):
    """All that is read of a network: four raw stages, and `Tail` without the stage."""

    stages: tuple[Tensor, ...]
    pooled: Tensor
    penultimate: Tensor
    logits: Tensor


class Cut(ABC):
    """Where the stages of one family of timm's networks lie; holds no parameters of its own.

    Args:
        net: The network.

    Attributes:
        family: ``cnn``: stages are maps (B, C, H, W); ``token``: they are tokens (B, T, D).
        num_prefix: Class tokens before the patches.
    """

    family = CNN
    num_prefix = 0

    def __init__(self, net: nn.Module) -> None:
        self.net = net

    @abstractmethod
    def front(self, images: Tensor) -> list[Tensor]:
        """Stages 1 to 3 of normalised images (B, 3, H, W)."""

    @abstractmethod
    def last(self, x: Tensor) -> Tensor:
        """Stage 4 of what `enter` gives."""

    def enter(self, x: Tensor) -> Tensor:
        """What stage 4 starts from: stage 3, for Swin merged into half the grid."""
        return x

    def tail(self, x: Tensor) -> Tail:
        """Stage 4 and the classifier of what `enter` gives, or of another network's features."""
        stage = self.last(x)
        normed = self.norm(stage)
        penultimate = self.net.forward_head(normed, pre_logits=True)
        logits = self.net.get_classifier()(penultimate)
        return Tail(stage, self.pool(normed, penultimate), penultimate, logits)

    def norm(self, stage: Tensor) -> Tensor:
        """What the head reads of stage 4."""
        return stage

    def places(self, stage: Tensor) -> Tensor:
        """Stage 4 as tokens (B, T, D), normalised as the head does, each by itself."""
        x = self.norm(stage)
        if self.family == TOKEN:
            return x.flatten(1, 2) if x.dim() == 4 else x
        # ConvNeXt normalises behind its pooling.
        norm = getattr(getattr(self.net, 'head', None), 'norm', None)
        return (x if norm is None else norm(x)).flatten(2).transpose(1, 2)

    def pool(self, normed: Tensor, penultimate: Tensor) -> Tensor:
        """The mean over all places: of most networks what the classifier reads."""
        return penultimate


class ResNetCut(Cut):
    """ResNet: the stem belongs to stage 1."""

    def front(self, images: Tensor) -> list[Tensor]:
        net = self.net
        x = net.maxpool(net.act1(net.bn1(net.conv1(images))))
        return _run((net.layer1, net.layer2, net.layer3), x)

    def last(self, x: Tensor) -> Tensor:
        return self.net.layer4(x)


class MobileNetCut(Cut):
    """MobileNetV2: stage 4 ends with the last convolution."""

    def front(self, images: Tensor) -> list[Tensor]:
        net, ends = self.net, self.net.stage_ends
        x = net.bn1(net.conv_stem(images))
        parts = [net.blocks[a:b] for a, b in zip((0, *ends[1:3]), ends[1:4], strict=True)]
        return _run(parts, x)

    def last(self, x: Tensor) -> Tensor:
        net = self.net
        return net.bn2(net.conv_head(net.blocks[net.stage_ends[3] :](x)))


class ConvNeXtCut(Cut):
    """ConvNeXt: a stage begins with its downsampling."""

    def front(self, images: Tensor) -> list[Tensor]:
        return _run(self.net.stages[:3], self.net.stem(images))

    def last(self, x: Tensor) -> Tensor:
        return self.net.norm_pre(self.net.stages[3](x))


class RepVitCut(Cut):
    """RepViT: a stage begins with its downsampling."""

    def front(self, images: Tensor) -> list[Tensor]:
        return _run(self.net.stages[:3], self.net.stem(images))

    def last(self, x: Tensor) -> Tensor:
        return self.net.stages[3](x)


class SwinCut(Cut):
    """Swin: tokens outside, timm's (B, H, W, C) inside; patches are merged before a stage."""

    family = TOKEN

    def maps(self, images: Tensor) -> list[Tensor]:
        """Stages 1 to 3 as (B, H, W, C)."""
        return _run(self.net.layers[:3], self.net.patch_embed(images))

    def front(self, images: Tensor) -> list[Tensor]:
        return [x.flatten(1, 2) for x in self.maps(images)]

    def enter(self, x: Tensor) -> Tensor:
        return self.net.layers[3].downsample(_square(x)).flatten(1, 2)

    def last(self, x: Tensor) -> Tensor:
        return self.net.layers[3].blocks(_square(x)).flatten(1, 2)

    def norm(self, stage: Tensor) -> Tensor:
        return self.net.norm(_square(stage))


class ViTCut(Cut):
    """Plain ViT: blocks 2, 4, 10 and 12 of 12 end a stage."""

    family = TOKEN

    def __init__(self, net: nn.Module) -> None:
        super().__init__(net)
        self.num_prefix = net.num_prefix_tokens
        self.ends = block_ends(len(net.blocks))

    def front(self, images: Tensor) -> list[Tensor]:
        net = self.net
        x = net.norm_pre(net.patch_drop(net._pos_embed(net.patch_embed(images))))
        return _run(_parts(net.blocks, self.ends), x)

    def last(self, x: Tensor) -> Tensor:
        return self.net.blocks[self.ends[2] :](x)

    def norm(self, stage: Tensor) -> Tensor:
        return self.net.norm(stage)

    def pool(self, normed: Tensor, penultimate: Tensor) -> Tensor:
        return normed[:, self.num_prefix :].mean(1)


class MixerCut(Cut):
    """MLP-Mixer and ResMLP: cut as ViTs are, no class token."""

    family = TOKEN

    def __init__(self, net: nn.Module) -> None:
        super().__init__(net)
        self.ends = block_ends(len(net.blocks))

    def front(self, images: Tensor) -> list[Tensor]:
        return _run(_parts(self.net.blocks, self.ends), self.net.stem(images))

    def last(self, x: Tensor) -> Tensor:
        return self.net.blocks[self.ends[2] :](x)

    def norm(self, stage: Tensor) -> Tensor:
        return self.net.norm(stage)


CUTS: dict[type[nn.Module], type[Cut]] = {
    ResNet: ResNetCut,
    EfficientNet: MobileNetCut,
    ConvNeXt: ConvNeXtCut,
    RepVit: RepVitCut,
    SwinTransformer: SwinCut,
    VisionTransformer: ViTCut,
    MlpMixer: MixerCut,
}


def block_ends(depth: int) -> tuple[int, int, int]:
    """Numbers of blocks after which stages 1 to 3 of a plain network end.

    Raises:
        ValueError: fewer than four blocks.
    """
    if depth < 4:
        raise ValueError(f'{depth} blocks: four stages need at least 4')
    ends = [max(k + 1, min(depth - 3 + k, round(depth * s))) for k, s in enumerate(SHARES)]
    return ends[0], max(ends[1], ends[0] + 1), max(ends[2], ends[0] + 2, ends[1] + 1)


def _parts(blocks: nn.Sequential, ends: tuple[int, int, int]) -> list[nn.Module]:
    return [blocks[a:b] for a, b in zip((0, *ends[:2]), ends, strict=True)]


def _run(parts: Any, x: Tensor) -> list[Tensor]:
    found = []
    for part in parts:
        x = part(x)
        found.append(x)
    return found


def _square(x: Tensor) -> Tensor:
    """Tokens (B, N, C) of a square grid as (B, H, W, C)."""
    edge = math.isqrt(x.shape[1])
    return x.unflatten(1, (edge, edge))
