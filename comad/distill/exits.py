"""OFA-KD's exits: from a stage of the student to class scores of its own (arXiv:2310.19444).

Layers, widths and initial weights are those of the paper's code.
"""

import math

import torch
from timm.models.vision_transformer import Block
from torch import Tensor, nn

from backbones.staged import StagedClassifier
from backbones.staged_table import CNN

# Grid that tokens are merged down to; every network of the paper ends at 7 x 7 or keeps 14 x 14.
FINAL_GRID = 7
HEADS = 4


class SeparableConv(nn.Sequential):
    """Halves a map: twice depthwise 3x3, pointwise, batch norm, ReLU; no biases."""

    def __init__(self, width: int, out: int) -> None:
        super().__init__(
            nn.Conv2d(width, width, 3, stride=2, padding=1, groups=width, bias=False),
            nn.Conv2d(width, width, 1, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(),
            nn.Conv2d(width, width, 3, padding=1, groups=width, bias=False),
            nn.Conv2d(width, out, 1, bias=False),
            nn.BatchNorm2d(out),
            nn.ReLU(),
        )


class MergePatches(nn.Module):
    """Swin's merging of 2 x 2 tokens: norm of the four, one linear map, then ``act``."""

    def __init__(self, width: int, out: int, act: nn.Module) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(4 * width)
        self.reduction = nn.Linear(4 * width, out, bias=False)
        self.act = act

    def forward(self, x: Tensor) -> Tensor:
        """(B, N, D) -> (B, N / 4, D')."""
        edge = math.isqrt(x.shape[1])
        # Neighbours in the order upper left, lower left, upper right, lower right.
        x = x.unflatten(1, (edge // 2, 2, edge // 2, 2)).permute(0, 1, 3, 4, 2, 5)
        return self.act(self.reduction(self.norm(x.flatten(3).flatten(1, 2))))


class CNNExit(nn.Sequential):
    """Halvings down to stage 4's grid, the last to the wider network's width, pool, linear."""

    def __init__(self, stage: int, student: StagedClassifier, teacher_width: int, classes: int):
        width = student.widths[stage - 1]
        out = max(student.embed_dim, teacher_width)
        widths = [width * 2**step for step in range(4 - stage)] + [out]
        parts: list[nn.Module] = [
            SeparableConv(a, b) for a, b in zip(widths, widths[1:], strict=False)
        ]
        parts = parts or [nn.Conv2d(width, out, 1)]
        super().__init__(*parts, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(out, classes))


class TokenExit(nn.Module):
    """Mergings down to 7 x 7 tokens, as many blocks as stages are left, class token or mean."""

    def __init__(self, stage: int, student: StagedClassifier, classes: int, final_grid: int):
        super().__init__()
        width, grid = student.widths[stage - 1], student.grids[stage - 1]
        out = student.embed_dim
        merges = max(int(math.log2(grid / final_grid)), 0)
        if grid % 2**merges:
            raise ValueError(
                f'stage {stage}: {grid} x {grid} tokens cannot be halved {merges} times'
            )
        if not merges and width != out:
            raise ValueError(
                f'stage {stage} has width {width}, its classifier {out}, and {grid} x {grid} '
                f'tokens are not merged; expected final_grid below {grid}'
            )
        self.num_prefix = student.num_prefix
        self.merge = nn.Sequential(
            *(
                MergePatches(
                    width if step == 0 else out,
                    out,
                    # The first keeps its GELU also where it is the last.
                    nn.GELU() if step == 0 or step < merges - 1 else nn.Identity(),
                )
                for step in range(merges)
            )
        )
        blocks = max(4 - stage, 1)
        self.blocks = nn.Sequential(
            *(Block(out, HEADS, norm_layer=nn.LayerNorm) for _ in range(blocks))
        )
        self.classifier = nn.Linear(out, classes)

    def forward(self, x: Tensor) -> Tensor:
        """Tokens (B, T, D), class token first if there is one -> class scores (B, K)."""
        x = self.blocks(_behind_prefix(self.merge, x, self.num_prefix))
        return self.classifier(x[:, 0] if self.num_prefix else x.mean(1))


def build_exit(
    stage: int,
    student: StagedClassifier,
    teacher_width: int,
    classes: int,
    final_grid: int = FINAL_GRID,
) -> nn.Module:
    """The exit after a stage, 1 to 4, of a CNN or a network of tokens.

    Args:
        teacher_width: Of the teacher's pooled feature.
        final_grid: Tokens per column and row that are merged down to; 7 there.
    """
    if student.family == CNN:
        made: nn.Module = CNNExit(stage, student, teacher_width, classes)
    else:
        made = TokenExit(stage, student, classes, final_grid)
    return made.apply(draw_weights)


def draw_weights(module: nn.Module) -> None:
    """Convolutions by Kaiming's fan-out, linear maps truncated normal 0.02, norms 1 and 0."""
    if isinstance(module, nn.Conv2d):
        nn.init.kaiming_normal_(module.weight, mode='fan_out', nonlinearity='relu')
    elif isinstance(module, nn.BatchNorm2d):
        nn.init.ones_(module.weight)
        nn.init.zeros_(module.bias)
    elif isinstance(module, nn.Linear):
        nn.init.trunc_normal_(module.weight, std=0.02)
        if module.bias is not None:
            nn.init.zeros_(module.bias)


def _behind_prefix(module: nn.Module, x: Tensor, count: int) -> Tensor:
    return module(x) if not count else torch.cat([x[:, :count], module(x[:, count:])], dim=1)
