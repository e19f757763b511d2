"""The study of distillation: its cells, and the table that it leaves."""

import csv
from types import SimpleNamespace

import pytest

from comad.engine.options import RunOptions
from comad.engine.run_config import load_run_config
from comad.leaderboard.study import DISTILLATION_CSV
from comad.runs.place import FILES
from comad.runs.record import write_record
from comad.sweep.distillation import METHODS, PAIRS, cells, distillation
from comad.sweep.finish import finish_distillation
from comad.sweep.grid import RECORDS
from comad.sweep.step import SweepError
from tests.leaderboard.examples import make_config, make_record


def test_cells_are_pairs_of_students_and_seeds():
    steps = distillation(FILES, 2)
    names = [step.name for step in steps]
    assert len(set(names)) == len(names) == 1 + 2 + 2 * 2 * (1 + len(METHODS))
    for place, step in enumerate(steps):
        assert set(step.needs) <= set(names[:place])
    taught = next(s for s in steps if s.name == 'distil_cifar100_fbt_swin_tiny_resnet18_p1')
    assert taught.needs == ('data', 'distil_cifar100_plain_swin_tiny_p0')
    assert '--student' not in taught.command
    assert 'base_configs/distill_cifar100.py' in taught.sources


@pytest.mark.parametrize('method', METHODS)
def test_every_cell_resolves_to_its_own_run(method):
    steps = distillation(FILES, 1)
    for teacher, student in PAIRS:
        name = f'cifar100_{method}_{teacher}_{student}'
        step = next(step for step in steps if step.name == f'distil_{name}_p0')
        words = step.command
        chosen = words[words.index('--student') + 1] if '--student' in words else None
        options = RunOptions(str(FILES / words[2]), track='sample', student=chosen)
        cfg = load_run_config(options, check=False)
        assert cfg.run.student == name and cfg.run.method == method
        assert step.outputs[0] == f'{cfg.work_dir}/student.safetensors'


def record(student, seed, value):
    """A record of a distillation."""
    config = make_config('linear', student, seed, seed)
    config['run']['kind'] = 'cifar100'
    return make_record({'top1_student': value}, 'cifar100', student, seed, seed, config)


def test_the_table_has_differences_from_the_student_alone(tmp_path):
    teacher, student = PAIRS[0]
    alone, fbt = f'cifar100_plain_{student}', f'cifar100_fbt_{teacher}_{student}'
    assert fbt in cells(teacher, student)
    outputs = []
    for seed, (low, high) in enumerate(((50.0, 60.0), (52.0, 61.0), (51.0, 62.5))):
        for name, value in ((alone, low), (fbt, high)):
            made = record(name, seed, value)
            write_record(tmp_path / RECORDS, made)
            outputs.append(f'{RECORDS}/{made.file}')
    sweep = SimpleNamespace(steps=[SimpleNamespace(outputs=outputs)], is_done=lambda step: True)
    reading = finish_distillation(tmp_path, sweep, 3)
    assert reading[:2] == [f'wrote {DISTILLATION_CSV}', f'{teacher} -> {student}:']
    rows = {r['cell']: r for r in csv.DictReader((tmp_path / DISTILLATION_CSV).open())}
    assert rows[fbt]['paired_difference'] == '+10.17' and rows[fbt]['beyond_noise'] == 'yes'
    assert rows[f'cifar100_kd_{teacher}_{student}']['missing'] == '3 of 3 seeds'
    nothing = SimpleNamespace(grid='distillation', steps=[], is_done=lambda step: True)
    with pytest.raises(SweepError, match='no distillation has a record'):
        finish_distillation(tmp_path, nothing, 3)
