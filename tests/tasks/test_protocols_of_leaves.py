"""Every transfer leaf tells its whole protocol; leaves of a task differ in the student alone."""

import json
from pathlib import Path

import pytest

from comad.engine.run_config import apply_sample, parse_config, parse_leaf_name
from comad.runs.record import MAX_BYTES
from comad.tasks.task import MULTI_SCALE, TASKS

MAIN = ('linear', 'finetune', 'knn', 'upernet', 'mask_rcnn')
LEAVES = sorted(
    path for folder in ('cls', 'seg', 'det') for path in Path(f'{folder}_configs').glob('*.py')
)


# The suite's own protocols have leaves for several students; for other papers' one is enough, since
# every student runs through it.
MAIN = ('linear', 'finetune', 'knn', 'upernet', 'mask_rcnn')


def protocol_of(path, sample):
    cfg = parse_config(path)
    lengths = cfg.pop('sample', None)
    if sample:
        apply_sample(cfg, parse_leaf_name(path), lengths)
    config = cfg._cfg_dict.to_dict()
    named = {key: config['protocol'][key] for key in ('name', 'version')}
    return {**named, **TASKS[parse_leaf_name(path).kind].read_protocol(config)}


@pytest.mark.parametrize('sample', [False, True], ids=['full', 'sample'])
@pytest.mark.parametrize('kind', [kind for kind in TASKS if not kind.endswith(MULTI_SCALE)])
def test_leaves_of_a_task_share_one_complete_protocol(kind, sample):
    leaves = [path for path in LEAVES if parse_leaf_name(path).kind == kind]
    # Of a variant one leaf is enough, other students run through --student.
    assert len(leaves) >= (3 if kind in MAIN else 1)
    protocols = [protocol_of(path, sample) for path in leaves]
    assert all(value is not None for value in protocols[0].values())
    assert all(protocol == protocols[0] for protocol in protocols[1:])
    assert len(json.dumps(protocols[0])) < MAX_BYTES / 2


def test_a_changed_recipe_is_another_protocol():
    cfg = parse_config('seg_configs/upernet_comad_tiny.py')._cfg_dict.to_dict()
    before = TASKS['upernet'].read_protocol(cfg)
    cfg['model']['decode_head']['channels'] = 768
    after = TASKS['upernet'].read_protocol(cfg)
    assert {name for name in before if before[name] != after[name]} == {'model'}


def test_a_wider_student_is_the_same_protocol():
    cfg = parse_config('seg_configs/upernet_comad_tiny.py')._cfg_dict.to_dict()
    before = TASKS['upernet'].read_protocol(cfg)
    cfg['model']['backbone']['arch'] = 'small'
    cfg['model']['neck']['in_channels'] = 384
    cfg['model']['decode_head']['in_channels'] = [384] * 4
    assert TASKS['upernet'].read_protocol(cfg) == before
