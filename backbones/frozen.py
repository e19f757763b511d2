"""Networks that nothing changes by accident: what makes a teacher of a network."""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .checkpoints import tensor_digest


class Frozen(nn.Module):
    """Mixin of teachers: nothing changes them by accident.

    They stay in eval mode, are never initialised again and are neither saved into nor expected in
    a checkpoint of the model that holds them: three ViT-B would add a gigabyte to every file.

    Under autocast a teacher casts its weights once, for good, and then computes in that type
    throughout, normalisation included: autocast itself would cast 86 million weights at every step
    and move twice the bytes between its layers.

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
            self.to(dtype)
            self._cast_digest = self.digest() if intact else 'changed before it was cast'

    def unchanged(self) -> bool:
        """Whether the weights are those of the file, or what `cast` made of them."""
        return self.digest() == (self._cast_digest or self.card['digest'])

    def compile_calls(self, **options: Any) -> None:
        """Compile in place what is asked of the network; ``options`` of torch.compile."""
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
        token_grid: Patches per column and row of the images that it sees.
    """

    token_grid: tuple[int, int]

    def freeze(self) -> None:
        """Make it a teacher; called once, at the end of the constructor."""
        super().freeze()
        self.token_grid = self.grid_size

    def compile_calls(self, **options: Any) -> None:
        """Compile the network in place, once per number of tokens; ``options`` of torch.compile."""
        self._network_tokens = torch.compile(self._network_tokens, dynamic=False, **options)

    def _network_tokens(
        self, images: Tensor, keep: Tensor | None, layers: list[int] | None
    ) -> Tensor | list[Tensor]:
        return super().tokens(images, keep, layers)

    def tokens(
        self, images: Tensor, keep: Tensor | None = None, layers: list[int] | None = None
    ) -> Tensor | list[Tensor]:
        """As `TokenNetwork.tokens`, without a graph; the result may take part in one."""
        return self.ask(self._network_tokens, images, keep, layers)

    def fit_grid(self, grid: int) -> None:
        """Resize images from now on so that they are ``grid`` patches wide.

        Does nothing if the teacher's own images are; other patch sizes than the student's need it.
        """
        if self.grid_size != (grid, grid):
            self.input_size, self.token_grid = grid * self.patch_size, (grid, grid)


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
