"""Figures that were measured several times, and their ratios."""

import statistics
from collections.abc import Mapping
from typing import NamedTuple


class Spread(NamedTuple):
    """A figure measured several times: median, smallest and largest value."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: list[float]) -> 'Spread':
        return cls(statistics.median(values), min(values), max(values))

    def text(self, digits: int = 2, unit: str = '') -> str:
        """``1.73 (1.70-1.75)``."""
        median, low, high = (f'{value:.{digits}f}' for value in self)
        return f'{median}{unit} ({low}-{high})'


def ratios(seconds: Mapping[str, list[float]], slow: str, fast: str) -> Spread:
    """How many times faster ``fast`` is than ``slow``, round by round."""
    return Spread.of([a / b for a, b in zip(seconds[slow], seconds[fast], strict=True)])
