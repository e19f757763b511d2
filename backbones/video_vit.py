"""`MaskedVideoViT`: VideoMAE's ViT on cubes of a clip, under the token contract of `MaskedViT`.

Shape letters: B clips, T frames, N cubes of the full grid, n kept cubes, D width. Cubes are counted
slot by slot, rows and columns within a slot.
"""

from functools import partial
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from mmengine.registry import MODELS
from timm.models.vision_transformer import Block
from torch import Tensor, nn

from .architectures import ARCHITECTURES, network_type
from .student import LoadsStudent, StudentWeights

NETWORK = 'MaskedVideoViT'
_norm = partial(nn.LayerNorm, eps=1e-6)


def flat_positions(width: int, count: int) -> Tensor:
    """VideoMAE's fixed table (1, N, D): one sin-cos code over the flat index of the cubes.

    Channel j of position p is sine (even j) or cosine (odd j) of p / 10000^(2 floor(j / 2) / D).
    """
    channels = np.arange(width)
    angles = np.arange(count)[:, None] / np.power(10000.0, 2 * (channels // 2) / width)
    table = np.where(channels % 2 == 0, np.sin(angles), np.cos(angles))
    return torch.from_numpy(table).float().unsqueeze(0)


def cubify(clips: Tensor, cube: tuple[int, int, int]) -> Tensor:
    """(B, C, T, H, W) -> (B, t, h, w, C, frames, rows, columns): a clip cut into cubes, no copy."""
    B, channels, *edges = clips.shape
    t, h, w = (edge // side for edge, side in zip(edges, cube, strict=True))
    cut = clips.reshape(B, channels, t, cube[0], h, cube[1], w, cube[2])
    return cut.permute(0, 2, 4, 6, 1, 3, 5, 7)


@MODELS.register_module()
class MaskedVideoViT(LoadsStudent, nn.Module):
    """Plain pre-norm ViT on cubes: no class token, fixed flat positions that no file holds.

    Blocks are timm's, LayerNorm eps 1e-6. As in the official code queries and values have a bias
    and keys have none: that part of ``qkv.bias`` is 0 and gets no gradient. Hidden cubes are never
    embedded.

    Args:
        arch: Name of a video network in `ARCHITECTURES`; the next arguments override its entries.
        drop_path_rate: Stochastic depth of the last block, rising linearly from 0.
        frozen: No gradients, always in eval mode.
        init_cfg: ``None`` for random weights or `StudentWeights`' arguments.

    Raises:
        ValueError: an unknown architecture, or sizes that are no multiples of the cube's.
    """

    num_prefix = 0
    mask_token = None

    def __init__(
        self,
        arch: str = 'video_small',
        img_size: int | None = None,
        frames: int | None = None,
        patch_size: int | None = None,
        tubelet: int | None = None,
        embed_dim: int | None = None,
        depth: int | None = None,
        num_heads: int | None = None,
        drop_path_rate: float = 0.0,
        frozen: bool = False,
        init_cfg: dict[str, Any] | None = None,
    ) -> None:
        super().__init__()
        known = [name for name in ARCHITECTURES if network_type(name) == NETWORK]
        if arch not in known:
            raise ValueError(f'arch {arch!r} is unknown; known: {", ".join(known)}')
        given = dict(
            img_size=img_size,
            frames=frames,
            patch_size=patch_size,
            tubelet=tubelet,
            embed_dim=embed_dim,
            depth=depth,
            num_heads=num_heads,
        )
        usual = {k: v for k, v in ARCHITECTURES[arch].items() if k not in ('type', 'title')}
        self._shape = shape = usual | {k: v for k, v in given.items() if v is not None}
        self.init_student, self.init_cfg = StudentWeights.from_cfg(init_cfg), init_cfg
        self.embed_dim, self.depth = shape['embed_dim'], shape['depth']
        self.num_heads, self.patch_size = shape['num_heads'], shape['patch_size']
        self.frames, self.tubelet = shape['frames'], shape['tubelet']
        self.cube = (self.tubelet, self.patch_size, self.patch_size)
        self.frozen = frozen
        self.grid_size = self._grid_of(self.frames, shape['img_size'], shape['img_size'])
        self.num_patches = self.grid_size[0] * self.grid_size[1] * self.grid_size[2]
        self.patch_embed = nn.Module()
        self.patch_embed.proj = nn.Conv3d(3, self.embed_dim, self.cube, self.cube)
        drops = [drop_path_rate * i / max(1, self.depth - 1) for i in range(self.depth)]
        self.blocks = nn.ModuleList(
            Block(self.embed_dim, self.num_heads, qkv_bias=True, drop_path=drop, norm_layer=_norm)
            for drop in drops
        )
        self.norm = _norm(self.embed_dim)
        self.register_buffer('positions', self.position_table(self.embed_dim), persistent=False)
        for block in self.blocks:
            without_key_bias(block)
        init_linears(self)
        self.requires_grad_(not frozen)
        self.train(not frozen)

    def architecture(self) -> dict[str, Any]:
        """The fields that a student card states and that decide whether weights fit."""
        return {'type': NETWORK, **self._shape}

    @property
    def size_divisor(self) -> int:
        """Edges of frames are multiples of the patch size."""
        return self.patch_size

    def position_table(self, width: int) -> Tensor:
        """The fixed positions of its cubes (1, N, width), also for decoders and generators."""
        return flat_positions(width, self.num_patches)

    def features(self, images: Tensor) -> dict[str, Tensor]:
        """Mean of the cube tokens after the final norm, (B, D) float32."""
        return {'mean': self.tokens(images).float().mean(1)}

    def grid(self, images: Tensor) -> tuple[int, int, int]:
        """Slots, rows and columns of cubes of clips (B, 3, T, H, W)."""
        if images.dim() != 5:
            raise ValueError(
                f'clips have the shape {tuple(images.shape)}: expected (B, 3, T, H, W)'
            )
        return self._grid_of(*images.shape[2:])

    def embed(self, images: Tensor, keep: Tensor | None = None) -> Tensor:
        """Cube tokens (B, n, D) with positions added.

        Args:
            images: clips (B, 3, T, H, W) of the network's own size.
            keep: (B, n) indices of the cubes to keep, in the order wanted; all when None.
        """
        if (grid := self.grid(images)) != self.grid_size:
            raise ValueError(
                f'clips have {grid} cubes, the network {self.grid_size}: its positions are made '
                'for these alone'
            )
        projection = self.patch_embed.proj
        if keep is None:
            return projection(images).flatten(2).transpose(1, 2) + self.positions
        cubes, (_, rows, columns) = cubify(images, self.cube), grid
        which = torch.arange(len(images), device=images.device)[:, None]
        slot, place = keep // (rows * columns), keep % (rows * columns)
        kept = cubes[which, slot, place // columns, place % columns].flatten(2)
        embedded = F.linear(kept, projection.weight.flatten(1), projection.bias)
        return embedded + self.positions[0][keep]

    def run(self, x: Tensor, start: int = 0, stop: int | None = None, grid: Any = None) -> Tensor:
        """Raw tokens (B, n, D) after ``blocks[start:stop]``; the grid does not matter here."""
        for block in self.blocks[start : self.depth if stop is None else stop]:
            x = block(x)
        return x

    def qkv(self, x: Tensor, block: int) -> tuple[Tensor, Tensor, Tensor]:
        """Query, key and value, each (B, heads, n, D / heads), of a block for its raw input."""
        attention = self.blocks[block].attn
        packed = attention.qkv(self.blocks[block].norm1(x))
        B, n, _ = packed.shape
        packed = packed.reshape(B, n, 3, attention.num_heads, -1).permute(2, 0, 3, 1, 4)
        return packed[0], packed[1], packed[2]

    def tokens(
        self, images: Tensor, keep: Tensor | None = None, layers: list[int] | None = None
    ) -> Tensor | list[Tensor]:
        """Cube tokens (B, n, D) after the final norm; with ``layers`` raw outputs of these blocks.

        Blocks after the last wanted one do not run.
        """
        x = self.embed(images, keep)
        if layers is None:
            return self.norm(self.run(x))
        outputs, position = {}, 0
        for layer in sorted(set(layers)):
            x = self.run(x, position, layer + 1)
            outputs[layer], position = x, layer + 1
        return [outputs[layer] for layer in layers]

    def forward(self, images: Tensor) -> Tensor:
        """Cube tokens (B, N, D) after the final norm."""
        return self.tokens(images)

    def init_weights(self) -> None:
        """MMEngine calls it on a built model: the student's file is read, if one is named."""
        self.load_weights()

    def train(self, mode: bool = True) -> 'MaskedVideoViT':
        """A frozen network stays in eval mode."""
        return super().train(mode and not self.frozen)

    def _grid_of(self, *edges: int) -> tuple[int, int, int]:
        if any(edge % side or not edge for edge, side in zip(edges, self.cube, strict=True)):
            size, cube = 'x'.join(map(str, edges)), 'x'.join(map(str, self.cube))
            raise ValueError(f'clips of {size} (frames, rows, columns) do not consist of {cube}')
        return tuple(edge // side for edge, side in zip(edges, self.cube, strict=True))


@torch.no_grad()
def init_linears(module: nn.Module) -> None:
    """VideoMAE's initialisation: Xavier-uniform matrices, zero biases; Conv3d stays torch's own."""
    for part in module.modules():
        if isinstance(part, nn.Linear):
            nn.init.xavier_uniform_(part.weight)
            if part.bias is not None:
                nn.init.zeros_(part.bias)


def without_key_bias(block: Block) -> None:
    """Keep the keys' part of a block's ``qkv.bias`` at 0, as the official code, which has none.

    Adam would make steps of the full rate from the rounding errors of a gradient that is 0.
    """
    bias = block.attn.qkv.bias
    width = len(bias) // 3
    bias.register_hook(
        lambda gradient: torch.cat([gradient[:width], 0 * gradient[:width], gradient[2 * width :]])
    )
