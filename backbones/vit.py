"""`MaskedViT`: timm's VisionTransformer with token dropping, feature maps and complete loading.

Shape letters: B images, N patches of the full grid, n kept patches, D width, p patch size.
"""

from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from mmengine.registry import MODELS
from timm.layers import LayerNorm
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor

from .architectures import timm_name, vits
from .position_tables import POSITION_RULES, resize_table
from .relative_positions import add_tables, attend, is_table
from .student import LoadsStudent, StudentWeights


@MODELS.register_module()
class MaskedViT(LoadsStudent, VisionTransformer):
    """Plain pre-norm ViT (class token, learned or loaded position table, LayerNorm eps 1e-6).

    Dropped patches are gathered out before the first block, so they cost nothing.

    Args:
        arch: Name of a ViT in `ARCHITECTURES`; the next five arguments override single entries.
        drop_path_rate: Stochastic depth of the last block, rising linearly from 0.
        out_indices: 0-based blocks whose outputs `forward` returns as maps.
        out_norm: Apply the final norm to each returned map (iBOT's convention; MAE's is raw).
        window_size: Side in tokens of ViTDet's attention windows; 0 means global attention.
        global_blocks: Blocks that stay global when ``window_size`` > 0.
        with_cls: Keep the class token in `forward`; windows need ``False``.
        frozen: No gradients, always in eval mode.
        use_mask_token: Adds the token that replaces patches in ``embed(mask=...)``, zero at first.
        pos_interpolation: How the table is resized to another grid: ``bicubic`` (to the exact
            size, no antialias: MAE, MoCo v3 and our students), ``bicubic_offset`` (scale factor
            (n + 0.1) / n0: DINO, iBOT, DINOv2) or ``bicubic_antialias`` (to the exact size:
            DINOv2 with registers).
        pos_size: Side in px of the images that the table is made for: a student's is resized to
            their grid once, when it is loaded, and then trained (segmentation of BEiT and MAE).
            ``None`` keeps the student's own, resized in every pass (ViTDet).
        layer_scale: Adds a LayerScale to both halves of each block (DINOv2); its initial value.
        reg_tokens: Number of register tokens; they follow the class token, have no position and
            are never returned. They need the class token, and no windows.
        rel_pos: Adds ViTDet's decomposed relative positions to every block, zero at first. No
            student file holds them. They need ``with_cls=False``.
        rel_pos_grid: Side in tokens that global blocks' tables are made for, ViTDet's 1024 / 16 by
            default; they are interpolated for another one.
        init_cfg: ``None`` for random weights or `StudentWeights`' arguments.

    Parameters that the chosen outputs cannot reach are frozen here, since a trainable tensor
    without a gradient stops DistributedDataParallel at the second step.
    """

    def __init__(
        self,
        arch: str = 'tiny',
        img_size: int | None = None,
        patch_size: int | None = None,
        embed_dim: int | None = None,
        depth: int | None = None,
        num_heads: int | None = None,
        drop_path_rate: float = 0.0,
        out_indices: tuple[int, ...] | list[int] | None = None,
        out_norm: bool = False,
        window_size: int = 0,
        global_blocks: tuple[int, ...] | list[int] = (),
        with_cls: bool = True,
        frozen: bool = False,
        use_mask_token: bool = False,
        pos_interpolation: str = 'bicubic',
        pos_size: int | None = None,
        layer_scale: float | None = None,
        reg_tokens: int = 0,
        rel_pos: bool = False,
        rel_pos_grid: int = 64,
        init_cfg: dict[str, Any] | None = None,
    ) -> None:
        if arch not in vits():
            raise ValueError(f'arch {arch!r} is unknown; known: {", ".join(vits())}')
        if pos_interpolation not in POSITION_RULES:
            raise ValueError(f'pos_interpolation {pos_interpolation!r}: one of {POSITION_RULES}')
        if window_size and with_cls:
            raise ValueError('window attention has no place for a class token: with_cls=False')
        if reg_tokens and not with_cls:
            raise ValueError('register tokens need with_cls=True')
        if rel_pos and with_cls:
            raise ValueError('relative positions have none for a class token: with_cls=False')
        if rel_pos_grid < 1:
            raise ValueError(f'rel_pos_grid {rel_pos_grid} is no side in tokens: at least 1')
        given = dict(
            img_size=img_size,
            patch_size=patch_size,
            embed_dim=embed_dim,
            depth=depth,
            num_heads=num_heads,
        )
        shape = vits()[arch] | {k: v for k, v in given.items() if v is not None}
        self.init_student = StudentWeights.from_cfg(init_cfg)
        self._constructed = False
        super().__init__(
            **shape,
            num_classes=0,
            global_pool='',
            drop_path_rate=drop_path_rate,
            qkv_bias=True,
            init_values=layer_scale,
            reg_tokens=reg_tokens,
            norm_layer=_layer_norm,
        )
        if reg_tokens:  # timm gives them positions
            self.pos_embed = torch.nn.Parameter(self.pos_embed.data[:, reg_tokens:])
        self._shape = shape
        self.patch_size: int = shape['patch_size']
        self.depth: int = shape['depth']
        self.num_heads: int = shape['num_heads']
        self.grid_size: tuple[int, int] = tuple(self.patch_embed.grid_size)
        self.num_patches: int = self.patch_embed.num_patches
        self.out_indices = None if out_indices is None else tuple(out_indices)
        self.out_norm = out_norm
        self.window_size = window_size
        self.global_blocks = frozenset(global_blocks)
        self.with_cls = with_cls
        self.frozen = frozen
        self.pos_interpolation = pos_interpolation
        self.table_grid = self.grid_size
        if pos_size is not None:
            self.table_grid = self._grid_of(pos_size, pos_size)
            self.pos_embed = torch.nn.Parameter(self._fitting(self.pos_embed.detach()))
        self.init_cfg = init_cfg
        self.mask_token = None
        if use_mask_token:
            self.mask_token = torch.nn.Parameter(torch.zeros(1, 1, self.embed_dim))
        self.rel_pos = rel_pos
        if rel_pos:
            for index, block in enumerate(self.blocks):
                add_tables(block.attn, self._window(index) or rel_pos_grid)
        self._constructed = True
        self._check_blocks()
        self._freeze_unreachable()
        self.train(not frozen)

    def new_parameters(self) -> set[str]:
        """Parameters that no student file holds: relative positions, a pretraining's mask token."""
        names = (name for name, _ in self.named_parameters())
        return {name for name in names if is_table(name) or name == 'mask_token'}

    def architecture(self) -> dict[str, int]:
        """The fields that a student card states and that decide whether weights fit."""
        return dict(self._shape)

    def timm_model(self) -> tuple[str, dict[str, Any]]:
        """Name and arguments of the same network in timm."""
        return timm_name(self._shape)

    @property
    def num_prefix(self) -> int:
        """Class token and registers."""
        return 1 + self.num_reg_tokens

    @property
    def any_size(self) -> bool:
        """Images of any multiples of `size_divisor` are taken: positions are interpolated."""
        return True

    @property
    def size_divisor(self) -> int:
        """Edges of images are multiples of the patch size."""
        return self.patch_size

    def features(self, images: Tensor) -> dict[str, Tensor]:
        """Class token and mean of the patch tokens after the final norm, each (B, D) float32."""
        tokens = self.tokens(images).float()
        return {'cls': tokens[:, 0], 'mean': tokens[:, 1:].mean(1)}

    # Tokens -------------------------------------------------------------------------------------

    def grid(self, images: Tensor) -> tuple[int, int]:
        """Rows and columns of patches of images (B, 3, H, W)."""
        return self._grid_of(*images.shape[-2:])

    def embed(
        self, images: Tensor, keep: Tensor | None = None, mask: Tensor | None = None
    ) -> Tensor:
        """Patch and class tokens with positions added, dropped patches already gone.

        Args:
            images: (B, 3, H, W), sides multiples of the patch size.
            keep: (B, n) indices of the patches to keep, in the order wanted; all in raster order
                when None.
            mask: (B, N) bool; True patches are replaced by the mask token.

        Returns:
            (B, 1 + n, D), class token first; registers, if there are any, come second.
        """
        if mask is not None and self.mask_token is None:
            raise ValueError('embed(mask=...) needs use_mask_token=True')
        grid = self.grid(images)
        table = self._positions(grid)
        if keep is not None and mask is None:
            patches = self._kept_patches(images, keep, grid) + table[0, 1:][keep]
            return torch.cat([self._prefix(table, patches), patches], dim=1)
        patches = self._patches(images)[0]
        if mask is not None:
            patches = torch.where(mask[..., None], self.mask_token.to(patches.dtype), patches)
        patches = patches + table[:, 1:]
        if keep is not None:
            patches = patches.gather(1, keep[..., None].expand(-1, -1, patches.shape[-1]))
        return torch.cat([self._prefix(table, patches), patches], dim=1)

    def run(
        self,
        x: Tensor,
        start: int = 0,
        stop: int | None = None,
        grid: tuple[int, int] | None = None,
    ) -> Tensor:
        """Raw tokens (B, T, D) after ``blocks[start:stop]``.

        ``grid`` is needed for windows and relative positions.
        """
        stop = self.depth if stop is None else stop
        for index in range(start, stop):
            if self.rel_pos or self._window(index):
                x = self._grid_block(self.blocks[index], x, grid, self._window(index))
            else:
                x = self.blocks[index](x)
        return x

    def qkv(self, x: Tensor, block: int) -> tuple[Tensor, Tensor, Tensor]:
        """Query, key and value, each (B, heads, T, D / heads), of a block for its raw input."""
        attention = self.blocks[block].attn
        packed = attention.qkv(self.blocks[block].norm1(x))
        B, T, _ = packed.shape
        packed = packed.reshape(B, T, 3, attention.num_heads, -1).permute(2, 0, 3, 1, 4)
        return packed[0], packed[1], packed[2]

    def tokens(
        self, images: Tensor, keep: Tensor | None = None, layers: list[int] | None = None
    ) -> Tensor | list[Tensor]:
        """Class and patch tokens (B, 1 + n, D) after the final norm.

        With ``layers`` (0-based block indices) a list of raw block outputs of that shape instead.
        """
        x = self.embed(images, keep)
        if layers is None:
            return self._without_registers(self.norm(self.run(x)))
        outputs, position = {}, 0
        for layer in sorted(set(layers)):
            x = self.run(x, position, layer + 1)
            outputs[layer], position = self._without_registers(x), layer + 1
        return [outputs[layer] for layer in layers]

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """Feature maps (B, D, H / p, W / p), one per entry of ``out_indices``."""
        indices = self.out_indices if self.out_indices is not None else (self.depth - 1,)
        patches, grid = self._patches(images)
        table = self._positions(grid)
        x = patches + table[:, 1:]
        if self.with_cls:
            x = torch.cat([self._prefix(table, x), x], dim=1)
        maps, position = [], 0
        for index in indices:
            x = self.run(x, position, index + 1, grid)
            position = index + 1
            out = self.norm(x) if self.out_norm else x
            out = out[:, self.num_prefix :] if self.with_cls else out
            maps.append(out.transpose(1, 2).reshape(images.shape[0], -1, *grid).contiguous())
        return tuple(maps)

    # Weights and modes --------------------------------------------------------------------------

    def init_weights(self, mode: str = '', needs_reset: bool = True) -> None:
        """timm's initialisation while being built; afterwards the student's file or nothing.

        MMEngine calls this on every child of a model after the child has been built. timm's own
        method would then overwrite whatever has been loaded.
        """
        if not self._constructed:
            super().init_weights(mode, needs_reset)
        else:
            self.load_weights()

    def adapt(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """A student's tensors with the position table in the size that is trained here."""
        table = tensors.get('pos_embed')
        fits = table is None or table.shape[1] != self.num_patches + 1
        return dict(tensors) if fits else {**tensors, 'pos_embed': self._fitting(table)}

    def train(self, mode: bool = True) -> 'MaskedViT':
        """A frozen network stays in eval mode."""
        return super().train(mode and not self.frozen)

    def _check_blocks(self) -> None:
        named = (*(self.out_indices or ()), *self.global_blocks)
        wrong = [index for index in named if not 0 <= index < self.depth]
        if wrong:
            raise ValueError(
                f'block {wrong[0]} does not exist: the network has {self.depth} blocks'
            )
        if self.out_indices is not None and list(self.out_indices) != sorted(set(self.out_indices)):
            raise ValueError(f'out_indices {self.out_indices} must be increasing')

    def _freeze_unreachable(self) -> None:
        if self.frozen:
            self.requires_grad_(False)
            return
        if self.out_indices is None:
            return
        if not self.out_norm:
            self.norm.requires_grad_(False)
        if not self.with_cls:
            self.cls_token.requires_grad_(False)
        for block in self.blocks[self.out_indices[-1] + 1 :]:
            block.requires_grad_(False)

    # Parts --------------------------------------------------------------------------------------

    def _grid_of(self, height: int, width: int) -> tuple[int, int]:
        if height % self.patch_size or width % self.patch_size:
            raise ValueError(
                f'image size {height}x{width} is not a multiple of the patch size '
                f'{self.patch_size}; pad the batch (size_divisor={self.patch_size})'
            )
        return height // self.patch_size, width // self.patch_size

    def _fitting(self, table: Tensor) -> Tensor:
        """A table of the architecture's own grid, in that of ``pos_size``."""
        if self.table_grid == self.grid_size:
            return table
        return resize_table(table, self.grid_size, self.table_grid, self.pos_interpolation)

    def _patches(self, images: Tensor) -> tuple[Tensor, tuple[int, int]]:
        grid = self.grid(images)
        return self.patch_embed.proj(images).flatten(2).transpose(1, 2), grid

    def _kept_patches(self, images: Tensor, keep: Tensor, grid: tuple[int, int]) -> Tensor:
        """Embedded patches (B, n, D) of the kept indices only; the others' pixels are not read."""
        B, channels = images.shape[:2]
        side, (rows, columns) = self.patch_size, grid
        pixels = images.reshape(B, channels, rows, side, columns, side).permute(0, 2, 4, 1, 3, 5)
        which = torch.arange(B, device=images.device)[:, None]
        kept = pixels[which, keep // columns, keep % columns].flatten(2)
        projection = self.patch_embed.proj
        return F.linear(kept, projection.weight.flatten(1), projection.bias)

    def _prefix(self, table: Tensor, patches: Tensor) -> Tensor:
        """Class token with its position and registers without: (B, 1 + R, D)."""
        prefix = self.cls_token + table[:, :1]
        if self.num_reg_tokens:
            prefix = torch.cat([prefix, self.reg_token], dim=1)
        return prefix.expand(patches.shape[0], -1, -1).to(patches.dtype)

    def _without_registers(self, x: Tensor) -> Tensor:
        if not self.num_reg_tokens:
            return x
        return torch.cat([x[:, :1], x[:, self.num_prefix :]], dim=1)

    def _positions(self, grid: tuple[int, int]) -> Tensor:
        """Position table (1, 1 + N, D) for a grid; the class row is never interpolated."""
        if grid == self.table_grid:
            return self.pos_embed
        return resize_table(self.pos_embed, self.table_grid, grid, self.pos_interpolation)

    def _window(self, index: int) -> int:
        """Side of a block's attention windows, 0 for global attention."""
        return 0 if index in self.global_blocks else self.window_size

    def _grid_block(
        self, block: torch.nn.Module, x: Tensor, grid: tuple[int, int] | None, side: int
    ) -> Tensor:
        """One block with attention inside windows of ``side`` tokens, 0 for the whole grid.

        ViTDet (arXiv:2203.16527) pads after norm1 with zeros, so that padding never meets the
        norm or the MLP; padded tokens are attended to without a mask, as in its code.
        """
        if grid is None:
            raise ValueError('window attention and relative positions need the token grid')
        B, _, D = x.shape
        height, width = grid
        y = block.norm1(x)
        if side:
            y = F.pad(y.view(B, height, width, D), (0, 0, 0, -width % side, 0, -height % side))
            rows, columns = y.shape[1] // side, y.shape[2] // side
            y = y.view(B, rows, side, columns, side, D).transpose(2, 3).reshape(-1, side * side, D)
        y = attend(block.attn, y, (side, side) if side else grid) if self.rel_pos else block.attn(y)
        if side:
            y = y.view(B, rows, columns, side, side, D).transpose(2, 3)
            y = y.reshape(B, rows * side, columns * side, D)[:, :height, :width].reshape(B, -1, D)
        x = x + block.drop_path1(block.ls1(y))
        return x + block.drop_path2(block.ls2(block.mlp(block.norm2(x))))


def _layer_norm(dim: int, **kwargs: Any) -> LayerNorm:
    return LayerNorm(dim, eps=1e-6, **kwargs)
