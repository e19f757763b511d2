"""Commands that a test runs work where the test is, not in the checkout that it tests."""

import pytest

from comad.runs.place import CALLER, HOME


@pytest.fixture(autouse=True)
def home_is_here(monkeypatch: pytest.MonkeyPatch) -> None:
    """The home of every command is the current directory; tests of the home say otherwise."""
    monkeypatch.setenv(HOME, '.')
    monkeypatch.setenv(CALLER, '.')
