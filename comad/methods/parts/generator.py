"""A small transformer that predicts a wider network's tokens where a student did not look."""

from functools import partial

import torch
from timm.layers import trunc_normal_
from timm.models.vision_transformer import Block
from torch import Tensor, nn

from comad.methods.parts.positions import sincos_positions


class FeatureGenerator(nn.Module):
    """Projected visible tokens and mask tokens, with fixed positions, through a few blocks.

    What the last block puts out is the prediction: no norm and no linear layer follow, since the
    targets are raw block outputs as well (our choice). The mask token is a parameter and trained.

    Args:
        width: D, the teacher's.
        grid_size: patches per side.
        depth: blocks.
        num_heads: heads of each.
    """

    def __init__(self, width: int, grid_size: int, depth: int, num_heads: int) -> None:
        super().__init__()
        self.mask_token = nn.Parameter(torch.zeros(1, 1, width))
        self.register_buffer(
            'positions', sincos_positions(width, grid_size, first='w')[:, 1:], persistent=False
        )
        norm = partial(nn.LayerNorm, eps=1e-6)
        self.blocks = nn.Sequential(
            *(Block(width, num_heads, qkv_bias=True, norm_layer=norm) for _ in range(depth))
        )
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
