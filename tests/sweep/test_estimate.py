"""Time left: hand-made schedules, and the scale of what was measured."""

import pytest

from comad.sweep.estimate import expected_durations, seconds_left, show_seconds
from comad.sweep.step import Step


def step(name, seconds, needs=(), threads=1):
    return Step(name, ('true',), (), tuple(needs), seconds=seconds, threads=threads)


STEPS = [step('a', 10), step('b', 20), step('c', 30, needs=('a',)), step('d', 5, needs=('b', 'c'))]
SECONDS = {'a': 10, 'b': 20, 'c': 30, 'd': 5}


def test_side_by_side():
    # a 0-10, b 0-20, c 10-40, d 40-45; one after the other 65.
    assert seconds_left(STEPS, SECONDS, 2, SECONDS, {}) == 45
    assert seconds_left(STEPS, SECONDS, 1, SECONDS, {}) == 65


def test_running_steps_count_what_is_left_of_them():
    # a is over; c has 18 s to go, b 15; then d.
    assert seconds_left(STEPS, SECONDS, 2, ['d'], {'c': 12, 'b': 5}) == 23
    # A step beyond its expectation counts as nearly done.
    assert seconds_left(STEPS, SECONDS, 2, ['d'], {'c': 99}) == 5


def test_a_wide_step_waits_for_both_slots():
    steps = [step('a', 10), step('wide', 20, threads=2)]
    assert seconds_left(steps, {'a': 10, 'wide': 20}, 2, ['a', 'wide'], {}) == 30


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
