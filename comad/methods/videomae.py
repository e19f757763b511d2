"""VideoMAE: rebuild the pixels of masked tubes (arXiv:2203.12602 and its official code)."""

from typing import Any

from mmengine.registry import MODELS
from torch import Tensor

from backbones.video_files import as_official
from comad.methods.amd import mse
from comad.methods.base import PretrainMethod
from comad.methods.parts.cubes import (
    CubeDecoder,
    CubePixels,
    draw_tubes,
    hidden_cubes,
    tube_count,
)


@MODELS.register_module()
class VideoMAE(PretrainMethod):
    """An encoder that sees a tenth of the cubes, and a decoder that rebuilds the rest.

    Args:
        backbone: config of the MaskedVideoViT.
        mask_ratio: share of places hidden, the same in all slots (official 0.9).
        norm_pix: normalise the target per cube and channel (official).
        decoder: arguments of ``CubeDecoder``; each ``arch`` is the official one of that name.
        data_preprocessor: config of the preprocessor.

    Raises:
        ValueError: a ratio that leaves no cube, or hides none.
    """

    vit_only = True

    def __init__(
        self,
        backbone: dict[str, Any],
        mask_ratio: float = 0.9,
        norm_pix: bool = True,
        decoder: dict[str, Any] | None = None,
        data_preprocessor: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(backbone, data_preprocessor)
        student = self.backbone
        places = student.num_patches // student.grid_size[0]
        if tube_count(places, mask_ratio) == places:
            raise ValueError(f'mask_ratio={mask_ratio} hides none of {places} places')
        self.mask_ratio = mask_ratio
        self.pixels = CubePixels(student.cube, norm_pix)
        out_dim = 3 * student.tubelet * student.patch_size**2
        self.decoder = CubeDecoder(
            student.embed_dim, out_dim, student.num_patches, **(decoder or {})
        )

    def loss(self, inputs: Tensor) -> dict[str, Tensor]:
        """Pixel loss of (B, 3, T, H, W) clips."""
        (keep,) = self.draw_masks(inputs)
        hidden = hidden_cubes(keep, self.backbone.num_patches)
        prediction = self.decoder(self.backbone.tokens(inputs, keep), keep, hidden)
        return {'loss_pixel': mse(prediction, self.pixels(inputs, hidden))}

    def draw_masks(self, clips: Tensor) -> tuple[Tensor]:
        """Cubes that are seen (B, n)."""
        return draw_tubes(len(clips), self.backbone.grid_size, (self.mask_ratio,), clips.device)

    def official_checkpoint(self) -> tuple[str, dict[str, Any]]:
        """File name and content of VideoMAE's pretraining file."""
        decoder = self.decoder.state_dict()
        beside = {name: decoder.pop(name) for name in ('mask_token', 'encoder_to_decoder.weight')}
        encoder = as_official(self.backbone.state_dict(), 'encoder.')
        model = {**encoder, **as_official(decoder, 'decoder.'), **beside}
        size = self.arch.removeprefix('video_')
        return f'videomae_pretrain_vit_{size}.pth', {'model': model}
