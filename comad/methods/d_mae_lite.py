"""D-MAE-Lite: MAE whose student also learns a teacher's attention (arXiv:2205.14443).

The story of a training step, in the order of :meth:`DMAELite.loss`:

1. A random quarter of the patches remains; student and teacher see the same ones.
2. The student runs as MAE's encoder and a decoder rebuilds the removed patches' pixels.
3. On the way, its attention logits (scaled products of queries and keys before the softmax, class
   token included) pass a 1 x 1 convolution over heads and are compared with the teacher's.

What the official code (wangsr126/MAE-Lite) says is followed: the same visible patches for both, the
logits of block 12 of 12, a 1 x 1 convolution without bias on the student's side whatever the number
of heads, mean squared error with weight 1, MAE's pixel loss. Ours: 3 heads as all students here
(the code: 12), which blocks are paired when depths differ, and a decoder of one 192-wide block (the
code: one 96-wide block of 3 heads).
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from mmengine.registry import MODELS
from torch import Tensor, nn

from comad.methods.base import full_precision
from comad.methods.mae import MaskedAutoencoder
from comad.methods.parts.block_pairs import Pairs, check_pairs
from comad.methods.parts.relations import relation_logits
from comad.methods.parts.teacher_set import TeacherSet


@MODELS.register_module()
class DMAELite(MaskedAutoencoder):
    """MAE with distilled attention logits.

    Shape letters: B images, n kept patches, T = 1 + n tokens, h and h_t heads of student and
    teacher.

    Args:
        backbone: config of the student, a MaskedViT.
        teachers: one dict, arguments of ``build_teacher``; the official teacher is MAE's ViT-Base.
        layers: 'last' (official: block 12 of both), or pairs of a student and a teacher block,
            counted from 1, our choice; the teacher's from 2 on.
        attention_weight: weight of the sum over pairs (official 1).
        mask_ratio, norm_pix, decoder, data_preprocessor: see ``MaskedAutoencoder``.

    Raises:
        ValueError: on several teachers, one whose attention is not read, or blocks that do not
            exist.
    """

    method_version = '1'

    def __init__(
        self,
        backbone: dict[str, Any],
        teachers: Sequence[Mapping[str, Any]],
        layers: str | Pairs = 'last',
        attention_weight: float = 1.0,
        mask_ratio: float = 0.75,
        norm_pix: bool = True,
        decoder: dict[str, Any] | None = None,
        data_preprocessor: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(backbone, mask_ratio, norm_pix, decoder, data_preprocessor)
        if len(teachers) != 1:
            raise ValueError(f'{len(teachers)} teachers: expected one, whose attention is learned')
        self.teacher_networks = TeacherSet(teachers, self.backbone.grid_size)
        self.teacher_cards = self.teacher_networks.cards
        (teacher,) = self.teacher_networks
        if not hasattr(teacher, 'qkv'):
            raise ValueError(
                f'teacher {self.teacher_networks.names[0]}: its attention is not read; expected a '
                "family of backbones/families.py instead of 'timm'"
            )
        depths = self.backbone.depth, *self.teacher_networks.depths
        # What enters a teacher's block is read where it leaves the one before: hence from 2.
        self.pairs = check_pairs('layers', [depths] if layers == 'last' else layers, depths, (1, 2))
        heads = self.backbone.num_heads, teacher.num_heads
        self.head_maps = nn.ModuleList(nn.Conv2d(*heads, 1, bias=False) for _ in self.pairs)
        self.attention_weight = attention_weight

    def loss(self, inputs: Tensor) -> dict[str, Tensor]:
        """One step on (B, 3, H, W) images, see the module's docstring."""
        keep, mask = self.draw_mask(inputs)  # 1.
        tokens, logits = self.encode(inputs, keep)  # 2.
        wanted = self.teacher_logits(inputs, keep)  # 3.
        mapped = [head_map(x) for head_map, x in zip(self.head_maps, logits, strict=True)]
        with full_precision(inputs):
            pairs = zip(mapped, wanted, strict=True)
            attention = sum(F.mse_loss(ours.float(), theirs.float()) for ours, theirs in pairs)
        return {
            'loss_pixel': self.rebuild(inputs, tokens, keep, mask),
            'loss_attention': self.attention_weight * attention,
        }

    def encode(self, images: Tensor, keep: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Normed student tokens (B, T, d), and per pair its attention logits (B, h, T, T)."""
        x, position, logits = self.backbone.embed(images, keep), 0, []
        for block, _ in self.pairs:
            x = self.backbone.run(x, position, block - 1)
            logits.append(attention_logits(self.backbone, x, block))
            position = block - 1
        return self.backbone.norm(self.backbone.run(x, position)), logits

    @torch.no_grad()
    def teacher_logits(self, images: Tensor, keep: Tensor) -> list[Tensor]:
        """Per pair the teacher's attention logits (B, h_t, T, T)."""
        (teacher,) = self.teacher_networks
        blocks = [block for _, block in self.pairs]
        before = teacher.tokens(images, keep, layers=[block - 2 for block in blocks])
        pairs = zip(before, blocks, strict=True)
        return [attention_logits(teacher, x, block) for x, block in pairs]


def attention_logits(network: nn.Module, x: Tensor, block: int) -> Tensor:
    """Scaled query-key products (B, h, T, T) of a block, from 1, for its raw input (B, T, D)."""
    query, key, _ = network.qkv(x, block - 1)
    return relation_logits(query, key)
