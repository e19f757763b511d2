"""AMD: a teacher that sees more than the student (arXiv:2311.03149), here on images.

The story of a training step, in the order of :meth:`AMD.loss`:

1. Masks. One random order of the patches: the student sees the first quarter, the teacher the first
   half, so what the teacher lacks is a part of what the student lacks.
2. Teacher. A frozen MAE encoder on the patches of the student and on the difference.
3. Direct. At pairs of blocks a linear map takes the student's tokens to the teacher's.
4. Generation. From the same mapped tokens a small generator predicts the teacher's tokens at the
   patches of the difference, which the student has never seen.
5. Reconstruction. A decoder rebuilds the pixels of all patches that the student did not see.

The official code is for video: `comad.methods.amd_video` tells the same story on cubes of a clip.
Its parts, their layers, the equal weights and the mean squared error are taken over; its authors
state the same scheme for images. Open for images are the mask ratios, the decoder, the recipe and
what becomes of the class token, which the video teacher does not have: all constructor arguments,
and our choice. In the released video code the generator's mask tokens are not registered as
parameters, so nothing trains them; here they are, unless ``train_mask_tokens=False``.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from mmengine.registry import MODELS
from torch import Tensor, nn

from comad.methods.base import PretrainMethod, at_least_float, full_precision
from comad.methods.mae import init_as_mae, pixel_loss
from comad.methods.parts.block_pairs import Pairs, check_pairs
from comad.methods.parts.decoder import FeatureGenerator, MaskedDecoder
from comad.methods.parts.masking import check_ratios, draw_masks, visibility, visible_count
from comad.methods.parts.positions import fix_positions, sincos_positions
from comad.methods.parts.teacher_set import TeacherSet


@MODELS.register_module()
class AMD(PretrainMethod):
    """Asymmetric masked distillation.

    Shape letters: B images, N patches, n_S / n_T patches seen by student and teacher, d / D their
    widths.

    Args:
        backbone: config of the student, a MaskedViT; its positions become the fixed sin-cos table.
        teachers: one dict: arguments of ``build_teacher`` and ``mask_ratio`` (0.5 in our configs;
            open for images). Any depth and width.
        mask_ratio: share of patches hidden from the student; open for images, MAE's.
        block_pairs: pairs (student, teacher) of blocks from 1 whose raw outputs are compared; by
            default the middle and the last one of each, which for 12 and 24 blocks are the video
            code's {6, 12} and {12, 24}.
        direct_weight, generation_weight: of these terms beside the reconstruction; 1 in the video
            code.
        distill_cls: whether the class token takes part as one more visible token, in the direct
            term and in the generator's input; our choice.
        norm_pix: normalise the target patches, as MAE.
        generator_depth: blocks of each generator; 2 in the video code. That every pair has its own
            is our reading.
        generator_heads: heads of its blocks, our choice; by default one per 64 channels as in ViT,
            or the teacher's if its heads are narrower.
        train_mask_tokens: of the generators; the released code leaves them as they are drawn.
        decoder: arguments of ``MaskedDecoder``, our choice; it is dropped at export.
        data_preprocessor: config of the preprocessor.

    Raises:
        ValueError: on more than one teacher, one that sees no more than the student, or blocks
            that do not exist.
    """

    method_version = '1'
    vit_only = True
    prefix = 1  # tokens before the patches: the class token

    def __init__(
        self,
        backbone: dict[str, Any],
        teachers: Sequence[Mapping[str, Any]],
        mask_ratio: float = 0.75,
        block_pairs: Pairs | None = None,
        direct_weight: float = 1.0,
        generation_weight: float = 1.0,
        distill_cls: bool = True,
        norm_pix: bool = True,
        generator_depth: int = 2,
        generator_heads: int | None = None,
        train_mask_tokens: bool = True,
        decoder: dict[str, Any] | None = None,
        data_preprocessor: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(backbone, data_preprocessor)
        if len(teachers) != 1 or 'mask_ratio' not in teachers[0]:
            raise ValueError(f'teachers={list(teachers)}: AMD has one, with family and mask_ratio')
        student = self.backbone
        self.mask_ratio, self.teacher_ratio = mask_ratio, float(teachers[0]['mask_ratio'])
        self.direct_weight, self.generation_weight = direct_weight, generation_weight
        self.distill_cls, self.norm_pix = distill_cls, norm_pix
        self._check_masks()

        self.teacher_networks = TeacherSet(teachers, student.grid_size, reads=['mask_ratio'])
        self.teacher_cards = self.teacher_networks.cards
        if not self.teacher_networks.depths[0]:
            raise ValueError(
                f'teacher {self.teacher_networks.names[0]} is read after its last stage only: AMD '
                'learns from the blocks of a ViT; CoMAD and DMT learn from any network'
            )
        depths = student.depth, *self.teacher_networks.depths
        pairs = block_pairs if block_pairs is not None else halves(*depths)
        self.block_pairs = check_pairs('block_pairs', pairs, depths)

        self._begin_student()
        width = self.teacher.embed_dim
        heads = generator_heads or max(width // 64, getattr(self.teacher, 'num_heads', 1))
        if generator_depth < 1 or width % heads:
            raise ValueError(
                f'generator_depth={generator_depth}, generator_heads={heads}: expected at least '
                f'one block, and heads that divide the width {width}'
            )
        self.maps = nn.ModuleList(
            nn.Linear(student.embed_dim, width, bias=False) for _ in self.block_pairs
        )
        self.generators = nn.ModuleList(
            FeatureGenerator(self._positions(width), generator_depth, heads)
            for _ in self.block_pairs
        )
        self.decoder = self._build_decoder(**(decoder or {}))
        for linear in self.maps:
            nn.init.xavier_uniform_(linear.weight)
        for generator in self.generators:
            generator.mask_token.requires_grad_(train_mask_tokens)

    @property
    def teacher(self) -> nn.Module:
        """The one teacher; a property, since an attribute would register it a second time."""
        return self.teacher_networks[0]

    def loss(self, inputs: Tensor) -> dict[str, Tensor]:
        """One step on (B, 3, H, W) images, or on clips; see the module's docstring."""
        keep, missing = self.draw_masks(inputs)  # 1.
        targets = self.teacher_outputs(inputs, keep, missing)  # 2.
        outputs, tokens = self.student_outputs(inputs, keep)
        prefix, direct, generation = self.prefix, [], []
        first, seen = 0 if self.distill_cls else prefix, prefix + keep.shape[1]
        for linear, generator, output, target in zip(
            self.maps, self.generators, outputs, targets, strict=True
        ):
            mapped = linear(output)  # (B, 1 + n_S, D)
            direct.append(mse(mapped[:, first:], target[:, first:seen]))  # 3.
            predicted = generator(mapped[:, first:prefix], mapped[:, prefix:], keep, missing)
            generation.append(mse(predicted, target[:, seen:]))  # 4.
        return {
            'loss_pixel': self.reconstruction(inputs, tokens, keep),  # 5.
            'loss_direct': self.direct_weight * torch.stack(direct).mean(),
            'loss_generation': self.generation_weight * torch.stack(generation).mean(),
        }

    def draw_masks(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Patches of the student (B, n_S), and those that the teacher sees besides."""
        N, ratios = self.backbone.num_patches, [self.teacher_ratio]
        masks = draw_masks('chain', len(images), N, self.mask_ratio, ratios, images.device)
        return masks.student, masks.teachers[0][:, masks.student.shape[1] :]

    def teacher_outputs(self, images: Tensor, keep: Tensor, missing: Tensor) -> list[Tensor]:
        """Raw outputs (B, 1 + n_T, D) of the paired blocks: class, student's, other patches."""
        layers = [block - 1 for _, block in self.block_pairs]
        return self.teacher.tokens(images, torch.cat([keep, missing], dim=1), layers=layers)

    def student_outputs(self, images: Tensor, keep: Tensor) -> tuple[list[Tensor], Tensor]:
        """Raw outputs (B, 1 + n_S, d) of the paired blocks, and the tokens after the final norm."""
        layers = [block - 1 for block, _ in self.block_pairs] + [self.backbone.depth - 1]
        *outputs, last = self.backbone.tokens(images, keep, layers=layers)
        return outputs, self.backbone.norm(last)

    def reconstruction(self, images: Tensor, tokens: Tensor, keep: Tensor) -> Tensor:
        """MAE's loss on all patches that the student does not see."""
        hidden = (~visibility(keep, self.backbone.num_patches)).float()
        size = self.backbone.patch_size
        return pixel_loss(images, self.decoder(tokens, keep), hidden, size, self.norm_pix)

    def _begin_student(self) -> None:
        """MAE's fixed positions and initialisation."""
        fix_positions(self.backbone, first='w')
        init_as_mae(self.backbone)

    def _positions(self, width: int) -> Tensor:
        """Fixed positions of all patches, (1, N, width)."""
        return sincos_positions(width, self.backbone.grid_size[0], first='w')[:, 1:]

    def _build_decoder(self, **options: Any) -> nn.Module:
        student = self.backbone
        pixels = 3 * student.patch_size**2
        return MaskedDecoder(student.embed_dim, pixels, student.grid_size[0], **options)

    def _check_masks(self) -> None:
        N, ratios = self.backbone.num_patches, (self.mask_ratio, self.teacher_ratio)
        check_ratios(N, ratios[0], ratios[1:])
        if visible_count(N, ratios[0]) == visible_count(N, ratios[1]):
            raise ValueError(
                f'teacher mask_ratio={ratios[1]} leaves as many patches as the student sees: '
                f'nothing is left to generate; expected below the student mask_ratio={ratios[0]}'
            )


def halves(student_depth: int, teacher_depth: int) -> Pairs:
    """The middle and the last block of each: (6, 6) and (12, 12), or (6, 12) and (12, 24)."""
    depths = student_depth, teacher_depth
    return sorted({tuple(max(1, depth // 2) for depth in depths), depths})


def mse(predicted: Tensor, target: Tensor) -> Tensor:
    """Mean squared error in float32, or in float64 of such tensors."""
    with full_precision(predicted):
        return (at_least_float(predicted) - at_least_float(target)).square().mean()
