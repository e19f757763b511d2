"""Every leaf tells its whole protocol: whatever is changed in a config shows in a field."""

import copy
import json
import re
from collections.abc import Iterator
from typing import Any

import pytest

from comad.engine.options import RunOptions
from comad.engine.run_config import load_run_config, parse_leaf_name
from comad.runs.record import MAX_BYTES
from comad.tasks.protocol import DIGESTS, ProtocolReader, lookup
from comad.tasks.task import TASKS, get_task
from tests.resolved import VIDEO_STUDENTS, leaf_of, leaves, resolved

# Of transfers; distillations have no leaf of CoMAD's student, see tests/distill/test_runs.py.
KINDS = [t.kind for t in TASKS.values() if t.has_leaves and t.folder != 'distill']
# Entries that are the student's or the machine's, or only look on.
STUDENT = ('backbone.type', 'arch', 'backbone.init_cfg', 'in_channels', 'patch_size')
MACHINE = (
    *('root', 'data_root', 'num_workers', 'persistent_workers', 'pin_memory', '_scope_', 'fused'),
)
LOOK_ON = (
    *('train_cfg.val_interval', 'batch_size', 'evaluator.ann_file'),
    # What is logged, saved, drawn and stopped.
    *(
        f'default_hooks.{name}'
        for name in (
            *('runtime_info', 'timer', 'logger', 'checkpoint', 'wall_time', 'throughput'),
            *('preemption', 'bad_images', 'loss_check', 'plain_checkpoint', 'prediction_figure'),
            *('per_class', 'run_record'),
        )
    ),
)
NO_PROTOCOL = re.compile(
    '|'.join(rf'(^|\.|_){re.escape(key)}($|\.)' for key in (*STUDENT, *MACHINE, *LOOK_ON))
)
SECTIONS = ('model', 'train_dataloader', 'optim_wrapper', 'param_scheduler', 'train_cfg')
SECTIONS += ('custom_hooks', 'default_hooks')
OURS = 'LayerWiseDecayConstructor'


def config_of(kind: str) -> dict[str, Any]:
    return resolved(leaf_of(get_task(kind)))


def protocol_of(config: dict[str, Any]) -> dict[str, Any]:
    named = {key: config['protocol'][key] for key in ('name', 'version')}
    return {**named, **TASKS[config['run']['kind']].read_protocol(config)}


@pytest.mark.parametrize('sample', [False, True], ids=['full', 'sample'])
@pytest.mark.parametrize('kind', KINDS)
def test_students_of_a_task_share_one_complete_protocol(kind, sample):
    task = get_task(kind)
    arch = VIDEO_STUDENTS.get(kind, 'comad_tiny').partition('_')[2]
    options = RunOptions(
        leaf_of(task), track='sample' if sample else 'full', student=f'scratch_{arch}'
    )
    configs = [load_run_config(options, check=False)._cfg_dict.to_dict()]
    # Usually one, as every student runs through it.
    configs += [
        resolved(path, sample)
        for path in leaves(get_task(kind).folder)
        if parse_leaf_name(path).kind == kind
    ]
    assert len(configs) > 1
    protocols = [protocol_of(config) for config in configs]
    assert all(value is not None for value in protocols[0].values())
    assert all(protocol == protocols[0] for protocol in protocols[1:])
    assert len(json.dumps(protocols[0])) < MAX_BYTES / 2
    assert set(protocols[0]) == {'name', 'version', *TASKS[kind].protocol_fields}


def places(node: Any, path: str) -> Iterator[str]:
    """Dotted paths of all values below a node that are no containers."""
    if isinstance(node, dict):
        for key, value in node.items():
            yield from places(value, f'{path}.{key}')
    elif isinstance(node, (list, tuple)):
        for number, value in enumerate(node):
            yield from places(value, f'{path}.{number}')
    else:
        yield path


def changed(config: dict[str, Any], path: str) -> dict[str, Any]:
    """A copy of a config with another value at a path."""

    def put(node: Any, parts: list[str]) -> Any:
        if not parts:
            return other(node)
        if isinstance(node, dict):
            return {**node, parts[0]: put(node[parts[0]], parts[1:])}
        position = int(parts[0])
        return [put(v, parts[1:]) if i == position else v for i, v in enumerate(node)]

    return put(config, path.split('.'))


def other(value: Any) -> Any:
    if isinstance(value, bool):
        return not value
    if isinstance(value, (int, float)):
        return value + 1 if value == int(value) else value * 1.5
    return 'another' if value is None else f'{value}_another'


@pytest.mark.parametrize('kind', KINDS)
def test_whatever_is_changed_shows_in_a_field_unless_it_is_no_choice_of_the_protocol(kind):
    """Values of all sections, one at a time; the digests alone may tell of it."""
    task, config = TASKS[kind], config_of(kind)
    before = task.read_protocol(config, 8)
    tested = [f'{task.tested}_{part}' for part in ('dataloader.dataset', 'evaluator', 'cfg')]
    unseen, seen = [], 0
    for section in (*SECTIONS, *tested):
        for path in places(lookup(config, section) or {}, section):
            after = task.read_protocol(changed(config, path), 8)
            if (after != before) == bool(NO_PROTOCOL.search(path)):
                unseen.append(path)
            seen += 1
    # Batch and accumulation are told by their product.
    assert unseen in ([], ['train_dataloader.batch_size']) and seen > 25


@pytest.mark.parametrize(
    ('kind', 'path', 'fields'),
    [
        ('upernet', 'model.decode_head.channels', {'head'}),
        ('upernet', 'model.decode_head.dropout_ratio', {'other_settings'}),
        ('upernet', 'model.test_cfg.stride.0', {'test_mode'}),
        ('upernet', 'model.backbone.rel_pos', {'relative_positions'}),
        ('mask_rcnn', 'model.rpn_head.num_convs', {'rpn_convolutions'}),
        ('mask_rcnn', 'model.test_cfg.rcnn.score_thr', {'other_test_settings'}),
        ('mask_rcnn', 'optim_wrapper.paramwise_cfg.decay_rate', {'layer_decay'}),
        ('linear', 'train_cfg.max_epochs', {'length'}),
        ('linear', 'train_cfg.cached_passes', {'other_settings'}),
        ('linear', 'train_dataloader.dataset.views.single_try', {'train_crop'}),
        ('linear', 'train_dataloader.dataset.views.type', {'other_settings'}),
        ('linear', 'default_hooks.sync_buffers.type', {'other_settings'}),
        ('finetune', 'model.mixup.prob', {'other_settings'}),
        ('finetune', 'optim_wrapper.optimizer.lr', {'learning_rate', 'schedule'}),
        ('knn', 'test_cfg.temperature', {'temperature'}),
        ('knn', 'test_cfg.bank_dataloader.dataset.split', {'bank_data'}),
        ('lowshot_1pct', 'test_cfg.max_iter', {'other_test_settings'}),
    ],
)
def test_a_change_shows_in_the_field_that_tells_it_alone(kind, path, fields):
    config = config_of(kind)
    config['model']['backbone'].setdefault('rel_pos', False)
    before = TASKS[kind].read_protocol(config, 8)
    after = TASKS[kind].read_protocol(changed(config, path), 8)
    assert {name for name in before if before[name] != after[name]} == fields


def test_a_wider_student_is_the_same_protocol():
    cfg = config_of('upernet')
    before = TASKS['upernet'].read_protocol(cfg)
    cfg['model']['backbone']['arch'] = 'small'
    cfg['model']['neck']['in_channels'] = 384
    cfg['model']['decode_head']['in_channels'] = [384] * 4
    assert TASKS['upernet'].read_protocol(cfg) == before


def test_initial_weights_of_a_head_are_protocol_and_those_of_the_student_are_not():
    config = config_of('upernet')
    before = TASKS['upernet'].read_protocol(config)
    config['model']['backbone']['init_cfg'] = dict(type='StudentWeights', student='other_tiny')
    assert TASKS['upernet'].read_protocol(config) == before
    config['model']['decode_head']['init_cfg'] = dict(type='Normal', std=0.5)
    after = TASKS['upernet'].read_protocol(config)
    assert {name for name in before if before[name] != after[name]} == {'other_settings'}


def test_batch_is_what_an_optimizer_step_sees_and_schedules_count_those():
    config = config_of('upernet')
    accumulated = copy.deepcopy(config)
    accumulated['optim_wrapper']['accumulative_counts'] = 4
    accumulated['train_cfg']['max_iters'] *= 4
    for entry in accumulated['param_scheduler']:
        entry |= {key: 4 * entry[key] for key in ('begin', 'end') if key in entry}
    assert TASKS['upernet'].read_protocol(accumulated, 2) == TASKS['upernet'].read_protocol(
        config, 8
    )


def test_an_auto_scaled_rate_scales_the_floor_of_its_schedule():
    config = config_of('finetune')
    config['auto_scale_lr']['enable'] = True
    fields = TASKS['finetune'].read_protocol(config, 16)  # twice the base batch
    assert fields['learning_rate'] == 8e-3 and fields['schedule'] == 'cosine to 2e-06'


@pytest.mark.parametrize(
    ('wrapper', 'field', 'value'),
    [
        (dict(optimizer=dict(type='SGD', lr=0.1)), 'weight_decay', 0.0),
        (dict(optimizer=dict(type='AdamW', lr=0.1)), 'weight_decay', 0.01),
        (dict(optimizer=dict(type='AdamW', lr=0.1)), 'optimizer', 'AdamW, betas 0.9 0.999'),
        (dict(optimizer=dict(type='Foreign', lr=0.1)), 'weight_decay', None),
        (dict(type='AmpOptimWrapper'), 'precision', 'float16'),
        (dict(type='AutocastOptimWrapper', dtype='float32'), 'precision', 'float32'),
        (dict(type='ApexOptimWrapper'), 'precision', None),
        (dict(constructor=OURS), 'no_weight_decay', 'norm, bias, position, cls'),
        (dict(paramwise_cfg=dict(norm_decay_mult=0)), 'no_weight_decay', 'norm'),
        (dict(), 'no_weight_decay', 'nothing'),
        (dict(constructor='Foreign'), 'no_weight_decay', None),
        (dict(clip_grad=dict(max_norm=3.0)), 'gradient_clipping', 'norm 3'),
    ],
)
def test_what_a_config_leaves_to_a_default_is_known_and_what_is_foreign_is_not(
    wrapper, field, value
):
    assert TASKS['finetune'].read_protocol({'optim_wrapper': wrapper})[field] == value


def test_long_data_sets_end_in_a_digest_of_the_whole():
    config = {'data': {'type': 'BaseSegDataset', 'metainfo': {'classes': list('ab') * 100}}}
    first = ProtocolReader(config).data('data')
    assert len(first) == 240 and re.search(r'\.\.\. #[0-9a-f]{12}$', first)
    config['data']['metainfo']['classes'][-1] = 'c'
    assert ProtocolReader(config).data('data') != first


def test_a_config_that_tells_nothing_is_read_without_an_error():
    for task in TASKS.values():
        fields = task.read_protocol({})
        assert fields['resolution'] is None and set(DIGESTS) <= set(fields)
        assert 'length' not in fields or fields['length'] is None
