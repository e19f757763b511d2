"""Tasks are their files: they are found, complete, and need no torch."""

import ast
import inspect
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch.optim import Optimizer

import comad.tasks
from backbones.staged_table import NETWORKS
from comad.data import views
from comad.engine.config_keys import RUNNER_KEYS
from comad.engine.distillation import ALONE
from comad.evaluation.lars import Lars
from comad.runs.place import FILES
from comad.tasks.fields import FEATURES, OPTIMIZER_DEFAULTS, VIEW_DEFAULTS
from comad.tasks.task import FOLDERS, TABLES, TASKS, get_task
from tests.resolved import leaf_of

MODULES = sorted(Path(comad.tasks.__file__).parent.glob('*.py'))


def test_kinds_tables_and_folders_in_the_order_of_the_tables():
    main = [task.kind for task in TASKS.values() if not task.variant_of]
    assert main == [
        *('linear', 'finetune', 'knn', 'lowshot_1pct', 'lowshot_10pct', 'upernet', 'mask_rcnn'),
        *('cifar100', 'imagenet', 'k400_finetune', 'k400_linear', 'k400_knn'),
        *('ssv2_finetune', 'ssv2_linear', 'ssv2_knn'),
    ]
    assert TABLES == ('classification', 'segmentation', 'detection', 'distillation', 'video')
    assert FOLDERS == ('cls', 'seg', 'det', 'distill', 'video')
    assert [kind for kind, task in TASKS.items() if task.seconds] == [
        *('linear', 'finetune', 'knn', 'upernet', 'mask_rcnn')
    ]
    assert all(TASKS[t.variant_of].table == t.table for t in TASKS.values() if t.variant_of)


def test_every_kind_has_its_configs_and_its_part_of_the_sample():
    for task in TASKS.values():
        assert (FILES / f'base_configs/tracks/sample/{task.folder}.py').is_file()
        if task.has_leaves:
            assert (FILES / leaf_of(task)).is_file(), task.kind


def test_every_name_of_an_overlay_is_read():
    parts = {part for task in TASKS.values() for part in task.overlay_parts}
    parts |= {f'{ALONE}_{network}' for network in NETWORKS}  # of one run
    for folder in FOLDERS:
        tree = ast.parse((FILES / f'base_configs/tracks/sample/{folder}.py').read_text())
        names = [node for node in ast.walk(tree) if isinstance(node, ast.Name)]
        loaded = {node.id for node in names if isinstance(node.ctx, ast.Load)}
        assigned = {node.id for node in names if isinstance(node.ctx, ast.Store)}
        assert assigned <= loaded | parts | RUNNER_KEYS, folder


def test_study_columns_name_metrics_of_their_task():
    for task in TASKS.values():
        known = {(metric.name, metric.pool) for metric in task.metrics.values()}
        assert set(task.study.values()) <= known


def test_an_unknown_kind_is_named_with_the_known_ones():
    with pytest.raises(KeyError, match="no task is called 'guess'; there are linear, finetune"):
        get_task('guess')


def test_nothing_here_imports_torch_or_mmengine():
    for path in MODULES:
        for node in ast.walk(ast.parse(path.read_text())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ''] if isinstance(node, ast.ImportFrom) else []
            roots = {name.split('.')[0] for name in names}
            assert not roots & {'torch', 'mmengine', 'timm', 'numpy'}, path
    code = (
        'import sys, comad.tasks.upernet, comad.tasks.published\n'
        'assert not {"torch", "mmengine", "timm"} & set(sys.modules)'
    )
    subprocess.run([sys.executable, '-c', code], check=True)


@pytest.mark.parametrize('name', VIEW_DEFAULTS)
def test_defaults_of_views_are_those_of_the_code(name):
    fields = getattr(views, name).__dataclass_fields__
    assert {key: fields[key].default for key in VIEW_DEFAULTS[name]} == VIEW_DEFAULTS[name]


@pytest.mark.parametrize('name', OPTIMIZER_DEFAULTS)
def test_defaults_of_optimizers_are_those_of_the_code(name):
    kind: type[Optimizer] = Lars if name == 'Lars' else getattr(torch.optim, name)
    parameters = inspect.signature(kind).parameters
    assert {k: parameters[k].default for k in OPTIMIZER_DEFAULTS[name]} == OPTIMIZER_DEFAULTS[name]


def test_features_are_those_that_exist():
    from comad.evaluation.features import WIDTHS

    assert set(FEATURES) == set(WIDTHS)
