"""AMD on video: the story of `comad.methods.amd` on cubes (arXiv:2311.03149 and its code).

What differs from images: masks are tubes, one map of places for all slots of a clip, 90 % hidden
from the student and 75 % from the teacher; positions are the flat table that the network has; there
is no class token; the target of the pixels is normalised per cube and channel, and the decoder is
VideoMAE's. Both branches compare the raw outputs of the blocks {6, 12} with {12, 24}, by one linear
map per pair that they share.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from mmengine.registry import MODELS
from torch import Tensor, nn

from comad.methods.amd import AMD, mse
from comad.methods.parts.block_pairs import Pairs
from comad.methods.parts.cubes import (
    CubeDecoder,
    CubePixels,
    draw_tubes,
    hidden_cubes,
    init_as_videomae,
    tube_count,
)


@MODELS.register_module()
class AMDVideo(AMD):
    """Asymmetric masked distillation on clips; defaults are the official ones.

    Args:
        backbone: config of the student, a MaskedVideoViT.
        teachers: one dict: arguments of ``build_teacher`` and ``mask_ratio`` (official 0.75).
        mask_ratio: share of places hidden from the student.
        block_pairs, direct_weight, generation_weight, norm_pix: see ``AMD``.
        generator_depth, generator_heads, train_mask_tokens: see ``AMD``.
        decoder: arguments of ``CubeDecoder``; it is dropped at export.
        data_preprocessor: config of the preprocessor.

    Raises:
        ValueError: see ``AMD``.
    """

    prefix = 0

    def __init__(
        self,
        backbone: dict[str, Any],
        teachers: Sequence[Mapping[str, Any]],
        mask_ratio: float = 0.9,
        block_pairs: Pairs | None = None,
        direct_weight: float = 1.0,
        generation_weight: float = 1.0,
        norm_pix: bool = True,
        generator_depth: int = 2,
        generator_heads: int | None = None,
        train_mask_tokens: bool = True,
        decoder: dict[str, Any] | None = None,
        data_preprocessor: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(
            backbone,
            teachers,
            mask_ratio=mask_ratio,
            block_pairs=block_pairs,
            direct_weight=direct_weight,
            generation_weight=generation_weight,
            norm_pix=norm_pix,
            generator_depth=generator_depth,
            generator_heads=generator_heads,
            train_mask_tokens=train_mask_tokens,
            decoder=decoder,
            data_preprocessor=data_preprocessor,
        )
        self.pixels = CubePixels(self.backbone.cube, norm_pix)
        for generator in self.generators:
            init_as_videomae(generator)

    def draw_masks(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Cubes of the student (B, n_S), and those that the teacher sees besides, raster order."""
        ratios = (self.mask_ratio, self.teacher_ratio)
        return draw_tubes(len(images), self.backbone.grid_size, ratios, images.device)

    def reconstruction(self, images: Tensor, tokens: Tensor, keep: Tensor) -> Tensor:
        """Mean squared error of the pixels of all cubes that the student does not see."""
        hidden = hidden_cubes(keep, self.backbone.num_patches)
        return mse(self.decoder(tokens, keep, hidden), self.pixels(images, hidden))

    def _begin_student(self) -> None:
        """The network has its positions and VideoMAE's initialisation."""

    def _positions(self, width: int) -> Tensor:
        return self.backbone.position_table(width)

    def _build_decoder(self, **options: Any) -> nn.Module:
        student = self.backbone
        out_dim = 3 * student.tubelet * student.patch_size**2
        return CubeDecoder(student.embed_dim, out_dim, student.num_patches, **options)

    def _check_masks(self) -> None:
        places = self.backbone.num_patches // self.backbone.grid_size[0]
        student, teacher = (tube_count(places, r) for r in (self.mask_ratio, self.teacher_ratio))
        if teacher <= student:
            raise ValueError(
                f'teacher mask_ratio={self.teacher_ratio} leaves {teacher} of {places} places, the '
                f'student {student}; expected below the student mask_ratio={self.mask_ratio}'
            )
