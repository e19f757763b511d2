"""MAE: rebuild the pixels of masked patches (arXiv:2111.06377 and its official code)."""

from typing import Any

import torch
from mmengine.registry import MODELS
from torch import Tensor, nn

from comad.methods.base import PretrainMethod
from comad.methods.parts.decoder import MaskedDecoder
from comad.methods.parts.positions import fix_positions


def patchify(images: Tensor, patch_size: int) -> Tensor:
    """(B, 3, H, W) -> (B, N, p*p*3), channels innermost as in MAE's checkpoints."""
    batch, channels, height, width = images.shape
    rows, columns = height // patch_size, width // patch_size
    x = images.reshape(batch, channels, rows, patch_size, columns, patch_size)
    return x.permute(0, 2, 4, 3, 5, 1).reshape(batch, rows * columns, -1)


def random_masking(noise: Tensor, mask_ratio: float) -> tuple[Tensor, Tensor, Tensor]:
    """MAE's conventions: the lowest noise is kept, in the order of the noise.

    Args:
        noise: (B, N).
        mask_ratio: share of patches removed.

    Returns:
        ids_keep (B, int(N * (1 - ratio))); mask (B, N) in raster order, 1 = removed;
        ids_restore (B, N), the place of each patch in the shuffled order.
    """
    batch, num_patches = noise.shape
    count = kept_count(num_patches, mask_ratio)
    ids_shuffle = noise.argsort(dim=1)
    ids_restore = ids_shuffle.argsort(dim=1)
    ids_keep = ids_shuffle[:, :count]
    mask = torch.ones(batch, num_patches, device=noise.device).scatter_(1, ids_keep, 0.0)
    return ids_keep, mask, ids_restore


def kept_count(num_patches: int, mask_ratio: float) -> int:
    """Patches that MAE's rounding keeps of ``num_patches``.

    Raises:
        ValueError: the ratio keeps or removes none.
    """
    count = int(num_patches * (1 - mask_ratio))
    if not 0 < count < num_patches:
        raise ValueError(
            f'mask_ratio={mask_ratio}: expected a share between 0 and 1 that keeps and removes at '
            f'least one of {num_patches} patches'
        )
    return count


def pixel_loss(
    images: Tensor, prediction: Tensor, mask: Tensor, patch_size: int, norm: bool
) -> Tensor:
    """Mean squared error over removed patches, in float32.

    Args:
        images: (B, 3, H, W).
        prediction: (B, N, p*p*3).
        mask: (B, N), 1 = removed.
        patch_size: p.
        norm: normalise each patch by its own mean and (unbiased) variance.
    """
    target = patchify(images.float(), patch_size)
    if norm:
        variance, mean = torch.var_mean(target, dim=-1, keepdim=True)
        target = (target - mean) / (variance + 1e-6).sqrt()
    error = (prediction.float() - target).square().mean(dim=-1)
    return (error * mask).sum() / mask.sum()


@torch.no_grad()
def init_as_mae(backbone: nn.Module) -> None:
    """MAE's initialisation: Xavier-uniform matrices (patch embedding too), cls std 0.02."""
    for module in backbone.modules():
        if isinstance(module, nn.Linear):
            nn.init.xavier_uniform_(module.weight)
            nn.init.zeros_(module.bias)
    projection = backbone.patch_embed.proj.weight
    nn.init.xavier_uniform_(projection.view(len(projection), -1))
    nn.init.normal_(backbone.cls_token, std=0.02)


class MaskedAutoencoder(PretrainMethod):
    """An encoder that sees a quarter of the patches, and a decoder that rebuilds the rest.

    Args:
        backbone: config of the MaskedViT; its positions become the fixed sin-cos table, w first.
        mask_ratio: share of patches removed (official 0.75).
        norm_pix: normalise the target patches (official for the encoders that were released).
        decoder: arguments of ``MaskedDecoder``; ``arch='base'`` is the official 512 wide, 8
            blocks, the smaller ones are our choice.
        data_preprocessor: config of the preprocessor.
    """

    vit_only = True

    def __init__(
        self,
        backbone: dict[str, Any],
        mask_ratio: float = 0.75,
        norm_pix: bool = True,
        decoder: dict[str, Any] | None = None,
        data_preprocessor: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(backbone, data_preprocessor)
        kept_count(self.backbone.num_patches, mask_ratio)
        self.mask_ratio, self.norm_pix = mask_ratio, norm_pix
        fix_positions(self.backbone, first='w')
        init_as_mae(self.backbone)
        self.decoder = MaskedDecoder(
            self.backbone.embed_dim,
            3 * self.backbone.patch_size**2,
            self.backbone.grid_size[0],
            **(decoder or {}),
        )

    def draw_mask(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Kept patches (B, n) and the mask (B, N), 1 = removed, of (B, 3, H, W) images."""
        noise = torch.rand(len(images), self.backbone.num_patches, device=images.device)
        keep, mask, _ = random_masking(noise, self.mask_ratio)
        return keep, mask

    def rebuild(self, images: Tensor, tokens: Tensor, keep: Tensor, mask: Tensor) -> Tensor:
        """Pixel loss of (B, 3, H, W) images at removed patches, from (B, 1 + n, D) tokens."""
        prediction = self.decoder(tokens, keep)
        return pixel_loss(images, prediction, mask, self.backbone.patch_size, self.norm_pix)

    def loss(self, inputs: Tensor) -> dict[str, Tensor]:
        """Pixel loss of (B, 3, H, W) images."""
        keep, mask = self.draw_mask(inputs)
        tokens = self.backbone.tokens(inputs, keep)
        return {'loss_pixel': self.rebuild(inputs, tokens, keep, mask)}


@MODELS.register_module()
class MAE(MaskedAutoencoder):
    """The masked autoencoder by itself; its file can serve as a teacher.

    Args: see ``MaskedAutoencoder``.
    """

    def official_checkpoint(self) -> tuple[str, dict[str, Any]]:
        """File name and content of MAE's encoder-only release: ``{'model': bare keys}``."""
        return f'mae_pretrain_vit_{self.arch}.pth', {'model': self.backbone.state_dict()}
