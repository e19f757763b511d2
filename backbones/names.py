"""What somebody may have meant by a name that nothing has."""

from collections.abc import Iterable
from difflib import get_close_matches

NEAR = 0.5  # of 1, alike


def near(given: str, known: Iterable[str], most: int = 3, cutoff: float = NEAR) -> list[str]:
    """The nearest known names, nearest first."""
    return get_close_matches(given, list(dict.fromkeys(known)), most, cutoff)


def meant(given: str, known: Iterable[str], most: int = 3) -> str:
    """`` (did you mean NAME or NAME?)``, to stand behind the name that was given; '' without."""
    names = near(given, known, most)
    return f' (did you mean {" or ".join(names)}?)' if names else ''
