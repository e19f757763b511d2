"""What a network offers to methods, evaluations and tools, whatever it is made of.

Shape letters: B images, N patches of the full grid, n kept patches, T tokens, D width. Nothing
here imports torch; ``isinstance`` asks whether a network has the names of a protocol.
"""

from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

if TYPE_CHECKING:
    from torch import Tensor

# What a method may read of a network, each by the call of that name.
READABLE = ('tokens', 'maps', 'logits')


@runtime_checkable
class Backbone(Protocol):
    """Any network that can be a student.

    Attributes:
        embed_dim: Width D of its pooled features.
        size_divisor: The edges of its images have to be multiples of it; 1 if any will do.
    """

    embed_dim: int
    size_divisor: int

    def architecture(self) -> dict[str, Any]:
        """What a student's card states and what decides whether weights fit.

        The arguments that build it again; ``type``, its class, unless it is `MaskedViT`.
        """

    def features(self, images: 'Tensor') -> dict[str, 'Tensor']:
        """Pooled features (B, D), float32, by pool: ``mean``, and ``cls`` with a class token."""


@runtime_checkable
class TokenNetwork(Protocol):
    """A network that cuts images into patches and may leave some of them out.

    Attributes:
        embed_dim: D.
        grid_size: Patches per axis of its own images, one number per axis of the grid.
    """

    embed_dim: int
    grid_size: tuple[int, ...]

    def tokens(
        self, images: 'Tensor', keep: 'Tensor | None' = None, layers: list[int] | None = None
    ) -> 'Tensor | list[Tensor]':
        """(B, 1 + n, D) after the final norm, class token first; or raw outputs of ``layers``.

        ``keep`` (B, n) names the patches to see, in the order wanted; others are never computed.
        """


@runtime_checkable
class BlockNetwork(TokenNetwork, Protocol):
    """A token network whose blocks can be run one by one; ``blocks`` and ``norm`` are its modules.

    Attributes:
        depth: Number of blocks.
        num_prefix: Tokens before the patches in ``embed`` and ``run``: class token, registers.
    """

    depth: int
    num_prefix: int

    def grid(self, images: 'Tensor') -> tuple[int, ...]:
        """Patches per axis of these images."""

    def embed(self, images: 'Tensor', keep: 'Tensor | None' = None) -> 'Tensor':
        """Raw tokens (B, T, D) that enter the first block."""

    def run(self, x: 'Tensor', start: int = 0, stop: int | None = None) -> 'Tensor':
        """Raw tokens after ``blocks[start:stop]``."""

    def qkv(self, x: 'Tensor', block: int) -> 'tuple[Tensor, Tensor, Tensor]':
        """Query, key and value (B, heads, T, D / heads) of a block for its raw input."""


@runtime_checkable
class MapNetwork(Protocol):
    """A network that gives feature maps.

    Attributes:
        strides: Of each map, in pixels.
    """

    strides: tuple[int, ...]

    def maps(self, images: 'Tensor') -> tuple['Tensor', ...]:
        """(B, C, H / stride, W / stride), one per stride."""


@runtime_checkable
class Classifier(Protocol):
    """A network with a classifier of its own."""

    num_classes: int

    def logits(self, images: 'Tensor') -> 'Tensor':
        """Class scores (B, num_classes)."""


KINDS = dict(zip(READABLE, (TokenNetwork, MapNetwork, Classifier), strict=True))


def usual_size(network: Backbone) -> int:
    """Edge in pixels of the images that a network is made for; 224 where any will do."""
    return network.architecture().get('img_size', 224)


def offered(network: Any) -> list[str]:
    """What can be read of a network, in the order of ``READABLE``."""
    return [name for name, kind in KINDS.items() if isinstance(network, kind)]


def check_offers(network: Any, needs: str, who: str) -> None:
    """Stop where a network cannot give what is read of it.

    Args:
        needs: One of ``READABLE``.
        who: The network in words, for the message.

    Raises:
        ValueError: one line with both.
    """
    if needs not in READABLE:
        raise ValueError(f'needs={needs!r}: expected one of {", ".join(READABLE)}')
    if needs not in (found := offered(network)):
        raise ValueError(
            f'{who} offers {" and ".join(found) or "none of " + ", ".join(READABLE)}, but this '
            f'method reads {needs}; expected a network with {needs}'
        )
