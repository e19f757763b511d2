"""Clocks, turns and ratios."""

import time

import pytest
import torch

from comad.benchmark.spread import Spread, ratios
from comad.benchmark.timing import PartClock, interleave, matmul_rate

CPU = torch.device('cpu')


def test_all_take_their_turn_in_every_round():
    calls = []
    work = {name: (lambda name=name: calls.append(name)) for name in 'ab'}
    seen = []
    seconds = interleave(work, CPU, rounds=2, steps=2, progress=lambda *done: seen.append(done))
    assert ''.join(calls) == 'ab' + 'aabb' * 2  # one call each to warm up
    assert {name: len(values) for name, values in seconds.items()} == {'a': 2, 'b': 2}
    assert seen == [(i, 6) for i in range(1, 7)]


def test_a_ratio_is_taken_round_by_round():
    seconds = {'slow': [4.0, 6.0, 9.0], 'fast': [2.0, 2.0, 3.0]}
    assert ratios(seconds, 'slow', 'fast') == Spread(3.0, 2.0, 3.0)
    assert ratios(seconds, 'slow', 'fast').text(1) == '3.0 (2.0-3.0)'


def test_only_the_outermost_call_of_a_part_counts():
    class Network:
        def tokens(self):
            time.sleep(0.01)
            return self.run()

        def run(self):
            time.sleep(0.02)
            return 'out'

    network, clock = Network(), PartClock(CPU)
    for name in ('tokens', 'run'):
        clock.watch(network, name, 'student')
    start = time.perf_counter()
    assert network.tokens() == 'out'
    network.run()
    elapsed = time.perf_counter() - start
    found = clock.totals()
    # Counted twice, the inner call would make more than all the time there was.
    assert list(found) == ['student'] and 0.05 <= found['student'] <= elapsed
    assert clock.totals() == {}


def test_a_rate_is_that_of_a_product():
    start = time.perf_counter()
    rate = matmul_rate(CPU, torch.float32, seconds=0.01)
    least = 2 * 2048**3 / (time.perf_counter() - start) / 1e12
    assert rate > least > 0


def test_spread_needs_a_value():
    with pytest.raises(ValueError):
        Spread.of([])
