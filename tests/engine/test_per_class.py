"""per_class.json: what the metrics of the last evaluation keep, in the run's folder."""

import json
import math
from types import SimpleNamespace

from comad.engine.hooks.per_class import FILE, PerClassHook
from comad.evaluation.metrics import percentages


def run(folder, *metrics):
    evaluator = SimpleNamespace(metrics=metrics)
    return SimpleNamespace(work_dir=str(folder), val_evaluator=evaluator, test_evaluator=evaluator)


def test_shares_become_percent_and_no_figure_stays_none():
    assert percentages(('a', 'b'), (0.12345, math.nan)) == {'a': 12.35, 'b': None}


def test_the_last_validation_stays(tmp_path):
    hook = PerClassHook()
    for value in (1.0, 2.0):
        found = {'IoU': {'wall': value, 'Ä<b>': None}}
        hook.after_val_epoch(run(tmp_path, SimpleNamespace(per_class=found), SimpleNamespace()))
    assert json.loads((tmp_path / FILE).read_text()) == {
        'metrics': {'IoU': {'wall': 2.0, 'Ä<b>': None}}
    }
    assert [path.name for path in tmp_path.iterdir()] == [FILE]


def test_metrics_without_classes_leave_no_file(tmp_path):
    PerClassHook().after_test_epoch(run(tmp_path, SimpleNamespace()))
    assert list(tmp_path.iterdir()) == []
