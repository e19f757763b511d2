"""Curves of runs: several starts become one curve, and two curves part where they part."""

import json

import pytest

from comad.leaderboard.diff.curves import compare_curves, draw_curves, run_curves


def write(folder, start, entries, tail=''):
    path = folder / start / 'vis_data' / 'scalars.json'
    path.parent.mkdir(parents=True)
    path.write_text(''.join(json.dumps(entry) + '\n' for entry in entries) + tail)


def loss(step, value, **others):
    return {'loss': value, 'lr': 0.1, 'time': 1.5, 'iter': step, 'step': step, **others}


def test_losses_of_training_and_metrics_of_validation(tmp_path):
    others = {'grad_norm': 3.0, 'decode.loss_ce': 0.5, 'epoch': 1}
    validation = {'top1_mean': 40.0, 'time': 0.2, 'data_time': 0.1, 'step': 1}
    write(tmp_path, '20260101_000000', [loss(10, 2.0, **others), validation])
    assert run_curves(tmp_path) == {
        'decode.loss_ce': {10: 0.5},
        'loss': {10: 2.0},
        'top1_mean': {1: 40.0},
    }
    assert run_curves(tmp_path / 'nowhere') == {}


def test_a_resumed_run_is_one_curve(tmp_path):
    # Killed in the middle of a line at 40, resumed from 20; then begun anew and shorter.
    first = [loss(s, v) for s, v in ((10, 4.0), (20, 3.0), (30, 2.0))]
    write(tmp_path, '20260101_000000', first, '{"loss": 1.0, "iter": 4')
    write(tmp_path, '20260102_000000', [loss(30, 2.5), loss(40, 1.5)])
    assert run_curves(tmp_path) == {'loss': {10: 4.0, 20: 3.0, 30: 2.5, 40: 1.5}}
    write(tmp_path, '20260103_000000', [loss(10, 9.0)])
    assert run_curves(tmp_path) == {'loss': {10: 9.0}}


def test_where_two_curves_part():
    first = {'loss': {10: 4.0, 20: 3.0, 30: 2.0, 40: 1.0}, 'top1': {1: 50.0}, 'bad': {1: 2.0}}
    last_bit = 3.0 + 2**-51
    second = {'loss': {10: 4.0, 20: last_bit, 30: 2.5, 50: 0.5}, 'top1': {1: 50.0}}
    found = {entry.name: entry for entry in compare_curves(first, second)}
    parted = found['loss']
    assert (parted.equal_until, parted.first_difference) == (10, 20)
    assert (parted.largest_gap, parted.largest_gap_at) == (0.5, 30)
    assert parted.final == (1.0, 0.5) and parted.steps == (4, 4)
    assert (found['top1'].first_difference, found['top1'].equal_until) == (None, 1)
    assert found['bad'].first_difference == 1 and found['bad'].final == (2.0, None)


def test_nan_is_equal_to_nan_and_a_missing_step_is_a_difference():
    nan = float('nan')
    (same,) = compare_curves({'loss': {1: nan}}, {'loss': {1: nan}})
    assert same.first_difference is None and same.largest_gap is None
    (shorter,) = compare_curves({'loss': {1: 2.0, 2: 1.0}}, {'loss': {1: 2.0}})
    assert (shorter.equal_until, shorter.first_difference) == (1, 2)


def test_figures_are_the_same_bytes_again_and_name_both_runs(tmp_path):
    curves = {'loss': {1: 2.0, 2: 1.0}, 'top1': {1: 5.0}}
    for name in ('a.svg', 'b.svg'):
        draw_curves(curves, {'loss': {1: 3.0}}, ('here', 'there'), tmp_path / name)
    text = (tmp_path / 'a.svg').read_text()
    assert text == (tmp_path / 'b.svg').read_text() and '<dc:date>' not in text
    draw_curves(curves, {}, ('here', 'there'), tmp_path / 'new' / 'c.png')
    assert (tmp_path / 'new' / 'c.png').read_bytes().startswith(b'\x89PNG')
    with pytest.raises(ValueError, match='c.jpg: figures are drawn as .svg'):
        draw_curves(curves, {}, ('a', 'b'), tmp_path / 'c.jpg')
    with pytest.raises(ValueError, match='nothing to draw'):
        draw_curves({}, {}, ('a', 'b'), tmp_path / 'd.svg')
