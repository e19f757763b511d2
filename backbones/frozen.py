"""Networks that nothing changes by accident: what makes a teacher of a network."""

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .checkpoints import tensor_digest
from .fused_mlp import fuse_mlps


class Frozen(nn.Module):
    """Mixin of teachers: nothing changes them by accident.

    They stay in eval mode, are never initialised again and are neither saved into nor expected in
    a checkpoint of the model that holds them: three ViT-B would add a gigabyte to every file.

    Under autocast a teacher casts its weights once, for good, and then computes in that type
    throughout, normalisation included: autocast itself would cast 86 million weights at every step
    and move twice the bytes between its layers. On a GPU its MLPs are fused, see `fuse_mlps`.

    Attributes:
        card: family, file, licence and digest, as stated in the cards of its students.
        input_size: Edge in pixels to which images are resized first; None takes them as they are.
    """

    card: dict[str, Any]
    input_size: int | None = None

    def freeze(self) -> None:
        """Make it a teacher; called once, at the end of the constructor."""
        self.card = {}
        self._cast_digest: str | None = None
        self.requires_grad_(False)
        self.register_state_dict_post_hook(_leave_out)
        self.register_load_state_dict_pre_hook(_keep_own)
        self.eval()

    def init_weights(self, *args: Any, **options: Any) -> None:
        """timm's initialisation while being built, nothing once frozen.

        MMEngine calls it on every part of a model, after the file has been read.
        """
        if 'card' not in self.__dict__:
            super().init_weights(*args, **options)

    def train(self, mode: bool = True) -> 'Frozen':
        """Stay in eval mode."""
        return super().train(False)

    def cast(self, dtype: torch.dtype) -> None:
        """Change the type of all weights, which `unchanged` then takes for its own."""
        if dtype != next(self.parameters()).dtype:
            intact = self.unchanged()
            # The angles of rotary positions need more digits than bfloat16 has.
            ropes = [m for name, m in self.named_modules() if name.rpartition('.')[2] == 'rope']
            exact = [dict(rope.named_buffers()) for rope in ropes]
            self.to(dtype)
            for rope, buffers in zip(ropes, exact, strict=True):
                rope._buffers.update(buffers)
            self._cast_digest = self.digest() if intact else 'changed before it was cast'
            if dtype == torch.bfloat16 and next(self.parameters()).is_cuda:
                fuse_mlps(self)

    def unchanged(self) -> bool:
        """Whether the weights are those of the file, or what `cast` made of them."""
        return self.digest() == (self._cast_digest or self.card['digest'])

    def compile_calls(self, **options: Any) -> None:
        """Compile in place what is asked of the network; ``options`` of torch.compile.

        Abstract: tokens and logits are asked for by different methods, which the mixins below name.
        """
        raise NotImplementedError

    @property
    def network(self) -> nn.Module:
        """The module that a weight file fills."""
        return self

    def digest(self) -> str:
        """sha256 of all tensors; changes if anything touched the teacher."""
        return tensor_digest(self.state_dict().items())

    def ask(self, call: Callable[..., Any], images: Tensor, *args: Any) -> Any:
        """``call(images, *args)`` without a graph; the result may take part in one."""
        kind = images.device.type
        if torch.is_autocast_enabled(kind):
            self.cast(torch.get_autocast_dtype(kind))
        # An inference tensor cannot be saved for backward; its copy can.
        return _copied(self._ask_frozen(call, images, *args))

    @torch.inference_mode()
    def _ask_frozen(self, call: Callable[..., Any], images: Tensor, *args: Any) -> Any:
        with torch.autocast(images.device.type, enabled=False):
            images = images.to(next(self.parameters()).dtype)
            if self.input_size and images.shape[-2:] != (self.input_size,) * 2:
                size = (self.input_size,) * 2
                images = F.interpolate(
                    images, size, mode='bicubic', antialias=True, align_corners=False
                )
            return call(images, *args)


class FrozenTokens(Frozen):
    """Mixin of teachers that are token networks.

    Attributes:
        drops: Whether the network leaves hidden patches out. One that cannot sees the whole image,
            and the tokens that are kept are gathered afterwards.
        token_grid: Places per column and row for which it gives tokens.
        split: Patches per column and row of one such place, of networks that leave patches out;
            the place's token is their mean.
    """

    drops = True
    split = 1
    token_grid: tuple[int, int]

    def freeze(self) -> None:
        """Make it a teacher; called once, at the end of the constructor."""
        super().freeze()
        self.token_grid = self.grid_size
        if not getattr(self, 'any_size', True):
            self.input_size = self.img_size

    def compile_calls(self, **options: Any) -> None:
        """Compile the network in place, once per number of tokens; ``options`` of torch.compile."""
        self._network_tokens = torch.compile(self._network_tokens, dynamic=False, **options)

    def _network_tokens(
        self, images: Tensor, keep: Tensor | None, layers: list[int] | None
    ) -> Tensor | list[Tensor]:
        if not self.drops:
            return self._of_whole_image(super().tokens(images, None, layers), keep)
        if self.split == 1:
            return super().tokens(images, keep, layers)
        if keep is None:
            places = self.token_grid[0] * self.token_grid[1]
            keep = torch.arange(places, device=images.device).expand(len(images), -1)
        found = super().tokens(images, self._patches_of(keep), layers)
        area = self.split**2
        outputs = [
            torch.cat([x[:, :1], x[:, 1:].unflatten(1, (-1, area)).mean(2)], dim=1)
            for x in (found if layers is not None else [found])
        ]
        return outputs if layers is not None else outputs[0]

    def _patches_of(self, places: Tensor) -> Tensor:
        """Indices (B, n * split^2) of the patches of places (B, n)."""
        columns, split = self.token_grid[1], self.split
        inside = torch.arange(split, device=places.device)
        rows = (places // columns * split)[..., None, None] + inside[:, None]
        return (
            rows * columns * split + (places % columns * split)[..., None, None] + inside
        ).flatten(1)

    def _of_whole_image(self, tokens: Tensor, keep: Tensor | None) -> Tensor:
        """Tokens (B, 1 + N, D) of all cells for the places of ``token_grid`` that are kept.

        Another grid is averaged where it is finer, and interpolated bilinearly where it is not (our
        choice).
        """
        places, side = tokens[:, 1:], math.isqrt(tokens.shape[1] - 1)
        if (side, side) != self.token_grid:
            cells = places.transpose(1, 2).unflatten(2, (side, side))
            if side > self.token_grid[0]:
                cells = F.adaptive_avg_pool2d(cells, self.token_grid)
            else:
                cells = F.interpolate(cells, self.token_grid, mode='bilinear', align_corners=False)
            places = cells.flatten(2).transpose(1, 2)
        if keep is not None:
            places = places.gather(1, keep[..., None].expand(-1, -1, places.shape[-1]))
        return torch.cat([tokens[:, :1], places], dim=1)

    def tokens(
        self, images: Tensor, keep: Tensor | None = None, layers: list[int] | None = None
    ) -> Tensor | list[Tensor]:
        """As `TokenNetwork.tokens`, without a graph; the result may take part in one."""
        return self.ask(self._network_tokens, images, keep, layers)

    def fit_grid(self, grid: int, cell: int | None = None) -> None:
        """Give tokens for ``grid`` x ``grid`` places from now on, whatever its own images are.

        A network that leaves patches out sees images resized to whole patches per place: one, or
        as many as fit into ``cell``. Of any other the last map is resampled.

        Args:
            grid: Places per column and row.
            cell: Edge of a place in pixels of the student, where it is no patch of a ViT's.
        """
        if self.drops:
            self.split = max(1, round(cell / self.patch_size)) if cell else 1
            patches = grid * self.split
            if self.grid_size != (patches, patches):
                self.input_size = patches * self.patch_size
        self.token_grid = (grid, grid)


class FrozenNetwork(Frozen):
    """A frozen network of any kind, which offers the ``maps`` and ``logits`` that it has."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.inner = network
        self.embed_dim: int = network.embed_dim
        self.freeze()
        for name in ('strides', 'num_classes'):
            if hasattr(network, name):
                setattr(self, name, getattr(network, name))
        for name in ('maps', 'logits'):
            if hasattr(network, name):
                setattr(self, name, partial(self.ask, getattr(network, name)))

    def compile_calls(self, **options: Any) -> None:
        """Compile ``maps`` and ``logits`` in place; ``options`` of torch.compile."""
        for name in ('maps', 'logits'):
            if hasattr(self.inner, name):
                compiled = torch.compile(getattr(self.inner, name), dynamic=False, **options)
                setattr(self, name, partial(self.ask, compiled))

    @property
    def network(self) -> nn.Module:
        """The module that a weight file fills."""
        return self.inner


def _copied(value: Any) -> Any:
    return [x.clone() for x in value] if isinstance(value, (list, tuple)) else value.clone()


def _leave_out(module: nn.Module, state_dict: dict, prefix: str, metadata: dict) -> None:
    """Remove the teacher's tensors from the state of a model that holds it."""
    if prefix:
        for name in [name for name in state_dict if name.startswith(prefix)]:
            del state_dict[name]


def _keep_own(module: nn.Module, state_dict: dict, prefix: str, *_: Any) -> None:
    """Let a strict load of the holding model find the teacher's present tensors."""
    if prefix:
        state_dict.update({prefix + name: value for name, value in module.state_dict().items()})
