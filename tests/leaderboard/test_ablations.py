"""Ablations: means, paired differences and verdicts follow from fabricated records."""

import csv
import io
from types import SimpleNamespace

import pytest
from PIL import Image

from comad.leaderboard.cells import to_csv
from comad.leaderboard.study import (
    ABLATION_COLUMNS,
    ablation_rows,
    draw_ablations,
    read_ablations,
)
from comad.runs.record import write_record
from comad.sweep import finish
from comad.sweep.step import SweepError
from tests.leaderboard.examples import make_record

CELLS = {'comad_a_tiny': 'a instead of b', 'comad_b_tiny': 'no b', 'comad_c_tiny': 'c'}


def records(**values):
    """name -> figures of seeds 0, 1, ...; None for a missing run."""
    return [
        make_record({'top1_mean': v, 'top1_cls': v / 2}, 'linear', f'{name}_tiny', seed, seed)
        for name, figures in values.items()
        for seed, v in enumerate(figures)
        if v is not None
    ]


def rows(**values):
    return ablation_rows(records(**values), 'comad_tiny', CELLS, 'linear', seeds=3)


def table(found):
    rows = csv.DictReader(io.StringIO(to_csv(found, ABLATION_COLUMNS)))
    return {(row['cell'], row['metric']): row for row in rows}


BASE = dict(
    comad=(50.0, 54.0, 46.0), comad_a=(47.0, 50.9, 43.1), comad_b=(51.0, 50.0, 49.0), comad_c=()
)


def test_differences_are_taken_within_a_seed():
    cell = table(rows(**BASE))['comad_a_tiny', 'top1_mean']
    assert (cell['mean'], cell['sd'], cell['n']) == ('47.00', '3.90', '3')
    # Seeds vary by 4 points, the differences by 0.1: -3.0, -3.1, -2.9.
    assert (cell['paired_difference'], cell['paired_sd']) == ('-3.00', '0.10')
    assert cell['noise_bound'] == '0.25' and cell['beyond_noise'] == 'yes'
    assert cell['values'] == '0: 47.00; 1: 50.90; 2: 43.10' and cell['missing'] == ''
    assert cell['difference'] == 'a instead of b'


def test_a_difference_that_seeds_explain_is_within_noise():
    cell = table(rows(**BASE))['comad_b_tiny', 'top1_mean']
    assert cell['paired_difference'] == '+0.00' and cell['beyond_noise'] == 'no'
    assert float(cell['noise_bound']) == pytest.approx(4.30 * 3.61 / 3**0.5, abs=0.02)


def test_the_default_has_no_difference_and_comes_first():
    found = rows(**BASE)
    assert found['paired'].iat[0] is None
    assert list(found['cell'][:4]) == ['comad_tiny', *CELLS]


def test_missing_runs_are_shown_and_never_filled():
    found = table(rows(comad=(50.0, 54.0, 46.0), comad_a=(47.0, None, 43.0), comad_b=(51.0,)))
    two, one, none = (found[f'comad_{c}_tiny', 'top1_mean'] for c in 'abc')
    assert two['missing'] == '1 of 3 seeds' and two['paired_n'] == '2'
    assert one['missing'] == '2 of 3 seeds' and one['sd'] == one['beyond_noise'] == ''
    assert none['missing'] == '3 of 3 seeds' and none['n'] == '0' and none['mean'] == ''


def test_more_seeds_than_asked_for_are_none_that_miss():
    found = rows(comad=(50.0, 54.0, 46.0, 48.0), comad_a=(47.0, 50.9, 43.1, 45.0))
    assert table(found)['comad_a_tiny', 'top1_mean']['missing'] == ''
    assert read_ablations(found)[-2] == 'missing runs: comad_b_tiny, comad_c_tiny'


def test_without_the_default_nothing_is_compared():
    cell = table(rows(comad_a=(47.0, 50.0, 43.0)))['comad_a_tiny', 'top1_mean']
    assert cell['n'] == '3' and cell['paired_n'] == '0' and cell['beyond_noise'] == ''


def test_unpaired_runs_and_other_tasks_are_left_out():
    others = [
        make_record({'top1_mean': 99.0, 'top1_cls': 99.0}, 'linear', 'comad_tiny', 0, 5),
        make_record({'top1': 99.0}, 'finetune', 'comad_tiny', 1, 1),
    ]
    found = ablation_rows(others, 'comad_tiny', CELLS, 'linear', seeds=3)
    assert found.empty


def test_the_reading_tells_noise_from_effects_and_what_the_sample_is():
    lines = read_ablations(rows(**BASE))
    text = '\n'.join(lines)
    assert 'comad_a_tiny (a instead of b): -3.00 +- 0.10 (n = 3), beyond seed noise' in text
    assert 'comad_b_tiny (no b): +0.00 +- 3.61 (n = 3), within seed noise' in text
    assert 'comad_c_tiny: no verdict, no run of 3' in text and 'missing runs: comad_c_tiny' in text
    assert '2 of 4 differences' in text and 'about 0.2 would be' in text
    assert 'nothing about ImageNet' in lines[-1]


def test_figure_is_small_and_shows_missing_cells(tmp_path):
    path = draw_ablations(rows(**BASE), tmp_path / 'a' / 'figure.png')
    with Image.open(path) as image:
        assert image.size[0] > 400
    assert path.stat().st_size < 200_000
    assert [p.name for p in path.parent.iterdir()] == ['figure.png']
    with pytest.raises(ValueError, match='no rows'):
        draw_ablations(rows(), path)


def test_finish_counts_only_records_of_steps_that_are_done(tmp_path, monkeypatch):
    monkeypatch.setattr(finish, 'ABLATIONS', CELLS)
    monkeypatch.setattr(finish, 'RECORDS', 'records')
    folder, steps = tmp_path / 'records', []
    for record in records(comad=(50.0, 54.0), comad_a=(47.0, 50.9)):
        steps.append(SimpleNamespace(outputs=(f'records/{record.file}',)))
        write_record(folder, record)
    failed = steps[-1]
    sweep = SimpleNamespace(steps=steps, is_done=lambda step: step is not failed)
    reading = finish.finish_ablations(tmp_path, sweep, seeds=2)
    assert any('missing runs: comad_a_tiny' in line for line in reading)
    found = (tmp_path / 'results/sample_ablations.csv').read_text()
    assert '47.00' in found and '50.90' not in found
    assert (tmp_path / 'results/sample_ablations.png').is_file()
    nothing = SimpleNamespace(steps=steps, is_done=lambda step: False)
    with pytest.raises(SweepError, match='nothing to write'):
        finish.finish_ablations(tmp_path, nothing, seeds=2)
