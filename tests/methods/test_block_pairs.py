import pytest
from torch import nn

from comad.methods.parts.block_pairs import check_pairs, num_blocks


class Wrapped(nn.Module):
    """Like a timm teacher: the blocks are those of the network inside."""

    def __init__(self, depth):
        super().__init__()
        self.network = nn.Module()
        self.network.blocks = nn.ModuleList(nn.Identity() for _ in range(depth))


def test_pairs_count_from_one_and_come_sorted():
    assert check_pairs('pairs', [[12, 24], (6, 12)], (12, 24)) == [(6, 12), (12, 24)]


@pytest.mark.parametrize(
    ('pairs', 'first'),
    [
        ([(0, 1)], (1, 1)),
        ([(1, 5)], (1, 1)),
        ([(1, 2)], (2, 2)),
        ([(1, 1)], (1, 2)),
        ([(2, 2)] * 2, (1, 1)),
        ([(1,)], (1, 1)),
        ([(1, 2, 3)], (1, 1)),
        ([], (1, 1)),
        ('first', (1, 1)),
    ],
)
def test_wrong_pairs_are_named_with_what_there_is(pairs, first):
    with pytest.raises(ValueError) as caught:
        check_pairs('mine', pairs, (3, 4), first=first)
    text = str(caught.value)
    assert text.startswith(f'mine={pairs!r}: ') and text.endswith(f' from {first} to (3, 4)')


def test_depth_of_plain_and_of_wrapped_networks():
    assert num_blocks(Wrapped(7)) == num_blocks(Wrapped(7).network) == 7
