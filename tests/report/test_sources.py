"""What is read from a run's folder: curves, classes, pictures; damaged files are no error."""

import json
import math

import numpy as np
import pytest
from PIL import Image

from comad.report.figures import Point, draw_bands, draw_cost, over_seeds, thin
from comad.report.panels import pretrain_folder, run_curves
from comad.report.pictures import Source, make_gallery
from comad.report.tables import read_per_class
from comad.runs import logs as scalars
from comad.runs.place import folder_below
from tests.leaderboard.examples import changed, make_record
from tests.report.study import log


@pytest.mark.parametrize('place', ['..', '/etc', 'a/../../b', '', None, 'nowhere', 'a\0b'])
def test_no_record_leads_out_of_the_root(tmp_path, place):
    root = tmp_path / 'root'
    root.mkdir()
    assert folder_below(root, place) is None


def test_folders_of_a_run(tmp_path):
    run = tmp_path / 'work_dirs/sample/linear/comad_tiny/seed0'
    pretraining = tmp_path / 'work_dirs/sample/pretrain/comad_tiny/seed1'
    for folder in (run, pretraining):
        folder.mkdir(parents=True)
    assert folder_below(tmp_path, 'work_dirs/sample/linear/comad_tiny/seed0') == run
    found = changed(make_record({'top1_mean': 1.0}, pretrain_seed=1), sample=True)
    assert pretrain_folder(tmp_path, found) == pretraining
    assert pretrain_folder(tmp_path, changed(found, student__sha256=None)) is None
    (pretraining / 'student.json').write_text('{"sha256": "another"}')
    assert pretrain_folder(tmp_path, found) is None


def test_a_resumed_run_is_one_curve_with_its_later_values(tmp_path):
    log(tmp_path, [{'loss': 3.0, 'step': 1}, {'loss': 2.0, 'step': 2}], '20260101_1')
    log(tmp_path, [{'loss': 1.5, 'step': 2}, {'coco/bbox_mAP': 0.4, 'step': 3}], '20260102_1')
    with (tmp_path / '20260102_1/vis_data/scalars.json').open('a') as stream:
        stream.write('[1, 2]\n{"loss": 9, "st')
    curves, gaps = run_curves(tmp_path)
    assert curves == {'loss': {1: 3.0, 2: 1.5}, 'bbox_mAP': {3: 0.4}} and gaps == []


def test_values_that_are_no_number_are_named_and_not_drawn(tmp_path):
    log(tmp_path, [{'loss': math.nan, 'step': 1}, {'loss': 1.0, 'step': 2}])
    curves, gaps = run_curves(tmp_path)
    assert curves == {'loss': {2: 1.0}} and gaps == ['loss']


def test_thinning_keeps_the_mean():
    steps, values = thin({float(i): float(i % 2) for i in range(1000)}, 50)
    assert len(steps) == 50 and values == pytest.approx(np.full(50, 0.5))
    assert np.mean(steps) == pytest.approx(499.5)


def test_seeds_are_averaged_where_all_have_run():
    # 0, 10, 20 and 5, 15, 25: between 5 and 20 both are lines, y = x and y = 3 x.
    band = over_seeds([{0: 0, 10: 10, 20: 20}, {5: 15, 15: 45, 25: 75}])
    assert band.steps.tolist() == [10, 20] and band.mean.tolist() == [20, 40]
    assert band.sd == pytest.approx(np.array([20, 40]) / 2**0.5) and band.seeds == 2
    assert over_seeds([{0: 1.0}, {5: 1.0}]) is None, 'no step in common'
    assert over_seeds([{}]) is None, 'no curve'


@pytest.mark.parametrize(
    'text', ['{', '[]', '{"metrics": 3}', '{"metrics": {"a": 1}}', '[' * 10**5]
)
def test_damaged_results_per_class_are_none(tmp_path, text):
    (tmp_path / 'per_class.json').write_text(text)
    assert read_per_class(tmp_path) == {}


def test_results_per_class_are_percentages(tmp_path):
    classes = {'wall': 70.5, 'sky': None, 'car': 'x', 'sea': 120, 'dog': math.nan}
    (tmp_path / 'per_class.json').write_text(json.dumps({'metrics': {'IoU': classes}}))
    assert read_per_class(tmp_path) == {'IoU': {**dict.fromkeys(classes), 'wall': 70.5}}


def test_a_log_beyond_all_measure_is_left_alone(tmp_path, monkeypatch):
    log(tmp_path, [{'loss': 3.0, 'step': 1}])
    monkeypatch.setattr(scalars, 'MAX_BYTES', 5)
    assert scalars.read_starts(tmp_path) == [[]]


def test_labels_are_text_and_equal_figures_have_equal_bytes():
    band = over_seeds([{0: 0.005, 1: 0.01}, {0: 0.006, 1: 0.02}])
    svg = draw_bands('one', {'<b>$\\frac$ & 名': (0, band)}, 'step', 'y')
    assert '&lt;b&gt;$\\frac$ &amp; 名' in svg and '<b>' not in svg
    assert '0.005' in svg, 'what an axis says is not rounded'
    assert 'var(--c0)' in svg and '#01' not in svg and 'http' not in svg
    assert svg == draw_bands('one', {'<b>$\\frac$ & 名': (0, band)}, 'step', 'y')
    assert 'var(--c3)' in draw_cost('two', [Point('a', 3, 10.0, 50.0, 1.0)], 'x', 'y')
    assert 'stroke-dasharray' in draw_cost('two', [Point('a', 3, None, 50.0, 1.0)], 'x', 'y')


def test_pictures_fit_or_are_named_without_a_path(tmp_path):
    Image.effect_noise((60, 45), 90).resize((1600, 1200)).save(tmp_path / 'good.png')
    (tmp_path / 'bad.png').write_text('no picture')
    chosen = [Source(name, tmp_path / f'{name}.png') for name in ('good', 'bad', 'absent')]
    pictures, left_out = make_gallery(chosen, 180_000)
    assert [picture.caption for picture in pictures] == ['good']
    assert 20_000 < len(pictures[0].uri) <= 60_000
    assert left_out == ['bad: bad.png cannot be read', 'absent: absent.png cannot be read']
    assert max(pictures[0].width, pictures[0].height) >= 480
    pictures, left_out = make_gallery(chosen[:1], 2000)
    assert pictures == [] and left_out == ['good: does not fit into 2,000 bytes']
