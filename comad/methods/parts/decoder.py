"""Light transformers that predict what a student did not see from the tokens of what it saw."""

from functools import partial

import torch
from timm.layers import trunc_normal_
from timm.models.vision_transformer import Block
from torch import Tensor, nn

from comad.methods.parts.positions import sincos_positions

# name -> width, blocks, heads. 'base' is MAE's own decoder; the small ones are our choice: eight
# blocks of width 512 would cost as much as two ViT-B teachers. Sizes are named like the backbone's
# so that a sample run shrinks both by the same rule.
DECODERS = {
    'tiny': (192, 1, 3),
    'small': (384, 1, 6),
    'base': (512, 8, 16),
    'sample_tiny': (64, 1, 2),
    'sample_base': (64, 1, 2),
    # Of `CubeDecoder`: VideoMAE's and AMD's own.
    'video_small': (192, 4, 3),
    'video_base': (384, 4, 6),
    'video_large': (512, 12, 8),
    'sample_video_small': (64, 1, 2),
    'sample_video_base': (64, 1, 2),
    'sample_video_large': (64, 1, 2),
}

layer_norm = partial(nn.LayerNorm, eps=1e-6)


def decoder_size(
    arch: str, width: int | None, depth: int | None, num_heads: int | None
) -> tuple[int, int, int]:
    """Width, blocks and heads of a decoder: those of ``arch``, but for what is given.

    Raises:
        ValueError: if ``arch`` is unknown.
    """
    if arch not in DECODERS:
        raise ValueError(f'decoder arch={arch!r}: expected one of {", ".join(DECODERS)}')
    usual = DECODERS[arch]
    return width or usual[0], depth or usual[1], num_heads or usual[2]


def plain_blocks(width: int, depth: int, num_heads: int) -> nn.Sequential:
    """So many blocks of a ViT, one behind the other."""
    return nn.Sequential(
        *(Block(width, num_heads, qkv_bias=True, norm_layer=layer_norm) for _ in range(depth))
    )


class MaskedDecoder(nn.Module):
    """Mask tokens at hidden positions, fixed sin-cos positions, a few blocks, one linear output.

    Args:
        in_dim: width of the incoming tokens.
        out_dim: width of the output per position.
        grid_size: patches per side.
        arch: a name in ``DECODERS``.
        width, depth, num_heads: replace single values of ``arch``.

    Raises:
        ValueError: if ``arch`` is unknown.
    """

    def __init__(
        self,
        in_dim: int,
        out_dim: int,
        grid_size: int,
        arch: str = 'tiny',
        width: int | None = None,
        depth: int | None = None,
        num_heads: int | None = None,
    ) -> None:
        super().__init__()
        width, depth, heads = decoder_size(arch, width, depth, num_heads)
        self.embed = nn.Linear(in_dim, width)
        self.mask_token = nn.Parameter(torch.zeros(1, 1, width))
        self.register_buffer(
            'positions', sincos_positions(width, grid_size, first='w'), persistent=False
        )
        self.blocks = plain_blocks(width, depth, heads)
        self.norm = layer_norm(width)
        self.predict = nn.Linear(width, out_dim)
        trunc_normal_(self.mask_token, std=0.02)
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.xavier_uniform_(module.weight)
                nn.init.zeros_(module.bias)

    def forward(self, tokens: Tensor, keep: Tensor) -> Tensor:
        """Rebuild every position.

        Args:
            tokens: (B, 1 + n, in_dim) encoder output, cls first.
            keep: (B, n) long, the patch that each token belongs to.

        Returns:
            (B, N, out_dim) in raster order.
        """
        tokens = self.embed(tokens)
        batch, _, width = tokens.shape
        patches = self.mask_token.to(tokens.dtype).expand(batch, self.positions.shape[1] - 1, width)
        index = keep.unsqueeze(-1).expand(-1, -1, width)
        patches = patches.scatter(1, index, tokens[:, 1:])
        x = torch.cat([tokens[:, :1], patches], dim=1) + self.positions.to(tokens.dtype)
        return self.predict(self.norm(self.blocks(x)))[:, 1:]


class FeatureGenerator(nn.Module):
    """Projected visible tokens and mask tokens, with fixed positions, through a few blocks.

    What the last block puts out is the prediction: no norm and no linear layer follow, since the
    targets are raw block outputs as well (our choice). The mask token is a parameter and trained.

    Args:
        positions: (1, N, D) of all patches, as wide as the teacher.
        depth: blocks.
        num_heads: heads of each.
    """

    def __init__(self, positions: Tensor, depth: int, num_heads: int) -> None:
        super().__init__()
        width = positions.shape[-1]
        self.mask_token = nn.Parameter(torch.zeros(1, 1, width))
        self.register_buffer('positions', positions, persistent=False)
        self.blocks = plain_blocks(width, depth, num_heads)
        trunc_normal_(self.mask_token, std=0.02)
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.xavier_uniform_(module.weight)
                nn.init.zeros_(module.bias)

    def forward(self, cls: Tensor, tokens: Tensor, keep: Tensor, missing: Tensor) -> Tensor:
        """Predict tokens at the missing patches.

        Args:
            cls: (B, 0 or 1, D), passed along without a position.
            tokens: (B, n, D) projected tokens.
            keep: (B, n) their patches.
            missing: (B, m) the patches to predict.

        Returns:
            (B, m, D) in the order of ``missing``.
        """
        masks = self.mask_token.to(tokens.dtype).expand(len(tokens), missing.shape[1], -1)
        index = torch.cat([keep, missing], dim=1).unsqueeze(-1)
        table = self.positions.to(tokens.dtype).expand(len(tokens), -1, -1)
        places = table.gather(1, index.expand(-1, -1, tokens.shape[-1]))
        x = torch.cat([tokens, masks], dim=1) + places
        return self.blocks(torch.cat([cls, x], dim=1))[:, -missing.shape[1] :]
