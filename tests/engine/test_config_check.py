"""Mistakes in what a config builds: each is one line with its key, before anything is built."""

import pytest

import comad.engine.register  # noqa: F401
from comad.engine.config_check import arguments_of, check_config
from comad.engine.options import ConfigError, RunOptions
from comad.engine.run_config import load_run_config
from tests.resolved import leaves, resolved_config

PRETRAIN, LINEAR = 'pretrain_configs/mae_tiny.py', 'cls_configs/linear_comad_tiny.py'
OPTIMIZER = 'optim_wrapper.optimizer'
CASES = [
    (OPTIMIZER, 'type', 'AdaBelief', "optim_wrapper.optimizer.type='AdaBelief'", 'Ada'),
    (OPTIMIZER, 'lr', '1e-4x', "optim_wrapper.optimizer.lr='1e-4x'", 'expected float'),
    (OPTIMIZER, 'lr', float('nan'), 'lr=nan', 'Invalid learning rate'),
    (OPTIMIZER, 'betas', (0.9, 1.5), 'betas=(0.9, 1.5)', 'Invalid beta'),
    (OPTIMIZER, 'weight_decy', 0.1, 'optim_wrapper.optimizer.weight_decy=0.1', 'weight_decay?'),
    ('optim_wrapper', 'constructor', 'NoSuch', "optim_wrapper.constructor='NoSuch'", 'known: '),
    ('optim_wrapper', 'paramwise_cfg', {'decay_ratee': 0.9}, 'decay_ratee=0.9', 'known: '),
    ('optim_wrapper', 'clip_grad', 1.0, 'optim_wrapper (AutocastOptimWrapper', 'clip_grad=1.0'),
    ('optim_wrapper', 'clip_grad', {'max_norm': 'abc'}, "clip_grad (max_norm='abc')", 'to float'),
    ('optim_wrapper', 'clip_grad', {'max_nrm': 1}, 'clip_grad (max_nrm=1)', 'max_nrm'),
    ('optim_wrapper', 'dtype', 'float8', "dtype='float8'", 'bfloat16'),
    ('default_hooks.checkpoint', 'interval', [1, 2], 'interval=[1, 2]', 'expected int'),
    ('default_hooks.online_probe', 'banks', 3, 'default_hooks.online_probe.banks=3', 'bank?'),
    ('param_scheduler.0', 'start_facto', 1, 'param_scheduler.0.start_facto=1', 'start_factor'),
    ('param_scheduler.0', 'start_factor', 7.0, 'param_scheduler.0', 'start_factor=7.0'),
    ('train_dataloader', 'batch_siz', 3, 'train_dataloader.batch_siz=3', 'batch_size'),
    ('train_dataloader', 'batch_size', 'many', "train_dataloader.batch_size='many'", 'int'),
    ('train_dataloader.sampler', 'shuffle', 'maybe', "sampler.shuffle='maybe'", 'expected bool'),
    ('train_dataloader.dataset', 'splt', 'val', "train_dataloader.dataset.splt='val'", 'split'),
    ('default_hooks.wall_time', 'type', '', "default_hooks.wall_time.type=''", 'known: '),
    ('model', 'type', '../x', "model.type='../x'", 'known: '),
    ('model', 'type', 'MEA', "model.type='MEA'", 'MAE'),
    ('model', 'mask_rtio', 0.5, 'model.mask_rtio=0.5', 'mask_ratio'),
    ('model.backbone', 'depht', 3, 'model.backbone.depht=3', 'depth'),
    ('model.backbone', 'drop_path_rate', 2, 'backbone.drop_path_rate=2', 'expected 0 to below 1'),
    ('train_cfg', 'max_epoch', 3, 'train_cfg.max_epoch=3', 'max_epochs'),
    ('visualizer.vis_backends.0', 'type', 'Wandb', "vis_backends.0.type='Wandb'", 'Wandb'),
    ('log_processor', 'windw', 3, 'log_processor.windw=3', 'window_size'),
]


@pytest.mark.parametrize('case', CASES, ids=lambda case: f'{case[0]}.{case[1]}={case[2]}')
def test_a_mistake_is_named_with_what_is_known(case):
    place, name, value, *said = case
    cfg = load_run_config(RunOptions(PRETRAIN, track='sample'), check=False)
    node = cfg
    for part in place.split('.'):
        node = node[int(part) if part.isdigit() else part]
    node[name] = value
    with pytest.raises(ConfigError) as error:
        check_config(cfg)
    line = str(error.value)
    assert all(part in line for part in said) and '\n' not in line, line


def test_metrics_and_heads_of_transfers_are_checked_as_well():
    changes = {'val_evaluator.tpok': (1,), 'model.num_clases': 3, 'custom_hooks': [{'type': 'X'}]}
    for key, value in changes.items():
        options = RunOptions(LINEAR, track='sample', cfg_options={key: value})
        with pytest.raises(ConfigError, match=key.split('.')[-1]):
            check_config(load_run_config(options, check=False))


@pytest.mark.parametrize('path', leaves('cls', 'pretrain'), ids=lambda path: path.stem)
def test_every_leaf_passes(path):
    check_config(resolved_config(path, sample=True))


class Parent:
    def __init__(self, width: int, *, depth: int = 1) -> None: ...


class HandsOn(Parent):
    def __init__(self, name: str, **options) -> None:
        """Hands on ``options``."""
        super().__init__(3, **options)


class Keeps(Parent):
    def __init__(self, **options) -> None:
        super().__init__(3)
        self.options = options


def test_arguments_are_those_of_the_parents_where_they_are_handed_on():
    assert arguments_of(Parent) == ({'self': '', 'width': 'int', 'depth': 'int'}, True)
    handed = arguments_of(HandsOn)
    assert handed.closed and set(handed.names) == {'self', 'name', 'width', 'depth'}
    assert not arguments_of(Keeps).closed
