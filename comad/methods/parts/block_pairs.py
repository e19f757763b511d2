"""Which blocks of student and teacher are compared; all methods count them from 1, as papers do."""

from collections.abc import Sequence

from torch import nn

Pairs = Sequence[Sequence[int]]


def num_blocks(network: nn.Module) -> int:
    """Depth of a student or of a teacher, timm's too."""
    return len(getattr(network, 'network', network).blocks)


def check_pairs(
    name: str, pairs: Pairs, depths: tuple[int, int], first: tuple[int, int] = (1, 1)
) -> list[tuple[int, int]]:
    """Pairs of blocks (student, teacher), counted from 1, as sorted tuples.

    Args:
        name: of the option, for the message.
        pairs: as given.
        depths: blocks of student and teacher.
        first: the lowest block allowed of each.

    Raises:
        ValueError: no pairs, one that occurs twice, or a block that does not exist.
    """
    given = [] if isinstance(pairs, str) else [tuple(map(int, pair)) for pair in pairs]
    found = sorted(set(given))
    valid = all(
        len(pair) == 2 and all(low <= b <= d for low, b, d in zip(first, pair, depths, strict=True))
        for pair in found
    )
    if not found or len(found) != len(given) or not valid:
        raise ValueError(
            f'{name}={pairs!r}: expected different pairs of blocks (student, teacher) from '
            f'{first} to {depths}'
        )
    return found
