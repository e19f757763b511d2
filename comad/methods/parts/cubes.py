"""What methods on video share: nested tube masks, the pixels of cubes, VideoMAE's decoder."""

import torch
from timm.layers import trunc_normal_
from timm.models.vision_transformer import Block
from torch import Tensor, nn

from backbones.video_vit import cubify, flat_positions, init_linears, without_key_bias
from comad.data.preprocessor import MEAN, STD
from comad.methods.base import at_least_float, full_precision
from comad.methods.parts.decoder import decoder_size, layer_norm, plain_blocks
from comad.methods.parts.masking import visibility


def tube_count(places: int, mask_ratio: float) -> int:
    """Cubes that are seen in each slot: the official code hides int(ratio x places).

    Raises:
        ValueError: the ratio is outside [0, 1) or leaves nothing.
    """
    if not 0 <= mask_ratio < 1 or int(mask_ratio * places) >= places:
        raise ValueError(f'mask_ratio={mask_ratio}: expected 0 <= ratio < 1 that leaves a cube')
    return places - int(mask_ratio * places)


def draw_tubes(
    batch: int,
    grid: tuple[int, int, int],
    ratios: tuple[float, ...],
    device: torch.device | str = 'cpu',
) -> tuple[Tensor, ...]:
    """One map of places per clip, the same in all slots, nested: the heavier mask in the lighter.

    Args:
        batch: B.
        grid: slots, rows, columns.
        ratios: share hidden, the largest first.
        device: where to draw.

    Returns:
        Per ratio the cubes (B, n) that are seen beyond those of the ratios before, in raster order.
    """
    slots, places = grid[0], grid[1] * grid[2]
    order = torch.rand(batch, places, device=device).argsort(dim=1)
    starts = torch.arange(slots, device=device)[:, None] * places
    seen, parts = 0, []
    for count in (tube_count(places, ratio) for ratio in ratios):
        part = order[:, seen:count].sort(dim=1).values
        parts.append((starts + part[:, None, :]).flatten(1))
        seen = count
    return tuple(parts)


def hidden_cubes(keep: Tensor, num_cubes: int) -> Tensor:
    """Cubes (B, N - n) that are not among the kept (B, n), in raster order."""
    order = visibility(keep, num_cubes).int().argsort(dim=1, stable=True)
    return order[:, : num_cubes - keep.shape[1]]


class CubePixels(nn.Module):
    """What a decoder has to predict of a cube: RGB in [0, 1] as [frame, row, column, channel].

    Each channel of each cube has its mean taken off and is divided by its standard deviation
    (unbiased) + 1e-6, unlike MAE's patches, which are normalised over all channels.

    Args:
        cube: frames, rows, columns of a cube.
        norm_pix: normalise; official.
    """

    def __init__(self, cube: tuple[int, int, int], norm_pix: bool = True) -> None:
        super().__init__()
        self.cube, self.norm_pix = cube, norm_pix
        for name, values in (('mean', MEAN), ('std', STD)):
            values = (torch.tensor(values, dtype=torch.float64) / 255).view(3, 1, 1, 1)
            self.register_buffer(name, values, persistent=False)

    def forward(self, clips: Tensor, wanted: Tensor) -> Tensor:
        """(B, n, pixels) of the wanted cubes (B, n) of normalised clips (B, 3, T, H, W)."""
        with full_precision(clips):
            clips = at_least_float(clips)
            colours = clips * self.std.to(clips.dtype) + self.mean.to(clips.dtype)
            cubes = cubify(colours, self.cube).flatten(1, 3)  # (B, N, 3, frames, rows, columns)
            which = torch.arange(len(clips), device=clips.device)[:, None]
            pixels = cubes[which, wanted].permute(0, 1, 3, 4, 5, 2).flatten(2, 4)
            if self.norm_pix:
                deviation, mean = torch.std_mean(pixels, dim=2, keepdim=True)
                pixels = (pixels - mean) / (deviation + 1e-6)
            return pixels.flatten(2)


class CubeDecoder(nn.Module):
    """VideoMAE's decoder: seen tokens, mask tokens behind them, a few blocks, pixels of the hidden.

    Names of its tensors are those of the official files.

    Args:
        in_dim: width of the encoder's tokens.
        out_dim: pixels of a cube, all channels.
        num_cubes: N.
        arch: a name in ``DECODERS``.
        width, depth, num_heads: replace single values of ``arch``.

    Raises:
        ValueError: if ``arch`` is unknown.
    """

    def __init__(
        self,
        in_dim: int,
        out_dim: int,
        num_cubes: int,
        arch: str = 'video_small',
        width: int | None = None,
        depth: int | None = None,
        num_heads: int | None = None,
    ) -> None:
        super().__init__()
        width, depth, heads = decoder_size(arch, width, depth, num_heads)
        self.encoder_to_decoder = nn.Linear(in_dim, width, bias=False)
        self.mask_token = nn.Parameter(torch.zeros(1, 1, width))
        self.register_buffer('positions', flat_positions(width, num_cubes), persistent=False)
        self.blocks = plain_blocks(width, depth, heads)
        self.norm = layer_norm(width)
        self.head = nn.Linear(width, out_dim)
        init_as_videomae(self)

    def forward(self, tokens: Tensor, keep: Tensor, hidden: Tensor) -> Tensor:
        """(B, m, out_dim) at the hidden cubes.

        Args:
            tokens: (B, n, in_dim) encoder output after its norm.
            keep: (B, n) their cubes.
            hidden: (B, m) all others.
        """
        x, places = self.encoder_to_decoder(tokens), self.positions[0]
        masks = self.mask_token + places[hidden]
        x = self.blocks(torch.cat([x + places[keep], masks], dim=1))
        return self.head(self.norm(x[:, keep.shape[1] :]))


def init_as_videomae(module: nn.Module) -> None:
    """Xavier-uniform matrices, mask tokens normal 0.02 cut at one deviation, keys without bias."""
    init_linears(module)
    for part in module.modules():
        if isinstance(token := getattr(part, 'mask_token', None), nn.Parameter):
            trunc_normal_(token, std=0.02, a=-0.02, b=0.02)
        if isinstance(part, Block):
            without_key_bias(part)
