"""Time left: hand-made schedules, and the scale of what was measured."""

import pytest

from comad.sweep.estimate import chain_seconds, expected_durations, seconds_left, show_seconds
from comad.sweep.step import Step


def step(name, seconds, needs=()):
    return Step(name, ('true',), (), tuple(needs), seconds=seconds)


STEPS = [step('a', 10), step('b', 20), step('c', 30, needs=('a',)), step('d', 5, needs=('b', 'c'))]
SECONDS = {'a': 10, 'b': 20, 'c': 30, 'd': 5}


def test_side_by_side():
    # a 0-10, b 0-20, c 10-40, d 40-45; one after the other 65.
    assert seconds_left(STEPS, SECONDS, 2) == 45
    assert seconds_left(STEPS, SECONDS, 1) == 65
    # Nothing waits for another: 60 s of work on two slots.
    alone = [step(name, 20) for name in 'xyz']
    assert seconds_left(alone, dict.fromkeys('xyz', 20), 2) == 30


def test_only_what_is_left_counts():
    # a is over; c has 18 s to go, b 15; then d.
    assert seconds_left(STEPS, {'b': 15, 'c': 18, 'd': 5}, 2) == 23
    assert seconds_left(STEPS, {}, 2) == 0


def test_the_longest_chain_behind_a_step():
    assert chain_seconds(STEPS, SECONDS) == {'a': 45, 'b': 25, 'c': 35, 'd': 5}


def test_expectations_are_scaled_by_what_was_measured():
    found = expected_durations(STEPS, {'a': 30.0, 'b': 30.0, 'other grid': 1.0})
    # 60 measured for 30 expected
    assert found == {'a': 30.0, 'b': 30.0, 'c': 60.0, 'd': 10.0}
    assert expected_durations(STEPS, {}) == SECONDS


@pytest.mark.parametrize(
    ('seconds', 'text'),
    [(0.2, '0 s'), (54, '54 s'), (58, '1 min'), (700, '12 min'), (5400, '1 h 30 min')],
)
def test_shown_durations(seconds, text):
    assert show_seconds(seconds) == text
