"""A loss that is not finite: the run stops before the step and the saved step can be replayed."""

import pytest
import torch
from mmengine.hooks import Hook
from mmengine.registry import MODELS

import comad.engine.register  # noqa: F401
from backbones.checkpoints import read_checkpoint
from comad.engine.exact_data import place_batch
from comad.engine.failures import RunStopped
from comad.engine.hooks import loss_check
from comad.engine.launch import launch_replay
from comad.engine.options import RunOptions, command_of
from tests.engine.toy import ToyModel, run, toy_config
from tests.programs import run_group


@MODELS.register_module(force=True)
class BreakingModel(ToyModel):
    """Its loss is the log of a number that falls below zero in the seventh forward pass."""

    def __init__(self, backbone, teacher=None):
        super().__init__(backbone, teacher)
        self.register_buffer('passes', torch.zeros(()))
        self.register_parameter('average', torch.nn.Parameter(torch.zeros(3), requires_grad=False))
        self.log = Log()

    def forward(self, inputs, labels=None, mode='loss'):
        losses = super().forward(inputs, labels, mode)
        with torch.no_grad():
            self.passes += 1
            self.average += 1
        return dict(
            loss_head=losses['loss'], loss_log=self.log(6.5 - self.passes), accuracy=self.passes * 1
        )


class Log(torch.nn.Module):
    def forward(self, x):
        return x.log()


class Weights(Hook):
    """Keeps the weights at the beginning of every step."""

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        model = getattr(runner.model, 'module', runner.model)
        self.batch = data_batch
        self.weights = {name: value.clone() for name, value in model.state_dict().items()}


def breaking(work_dir, **changes):
    config = toy_config(work_dir, **changes)
    config.model.type = 'mmengine.BreakingModel'
    config.default_hooks.loss_check = dict(type='LossCheckHook')
    return config


def start(run_config, **options):
    from comad.engine.runner import BenchmarkRunner

    runner = BenchmarkRunner.from_cfg(run_config)
    runner.options = options
    runner.register_hook(hook := Weights())
    return runner, hook


@pytest.fixture(scope='module', params=['waits', 'fused'])
def broken(request, tmp_path_factory):
    """A run that broke in step 6: its folder, its message, the weights before that step.

    Fused optimizers skip the step by themselves and the host looks later, on GPUs; here as well.
    """
    folder = tmp_path_factory.mktemp('broken')
    config = breaking(folder / 'run', experiment_name=f'breaking_{request.param}')
    if request.param == 'fused':
        config.optim_wrapper.optimizer = dict(type='AdamW', lr=0.01, fused=True)
    config.dump(folder / 'config.py')
    runner, hook = start(config, config=str(folder / 'config.py'), track='full')
    with pytest.raises(RunStopped) as error, pytest.MonkeyPatch.context() as patch:
        if request.param == 'fused':
            patch.setattr(loss_check, 'skips_by_itself', lambda wrapper: True)
        runner.train()
    return folder, str(error.value), hook.weights, runner


def test_the_run_stops_before_the_weights_change(broken):
    folder, message, weights, runner = broken
    bundle = read_checkpoint(folder / 'run/nan_step6/bundle.pth')
    assert runner.iter == bundle['step'] == 6
    assert bundle['weights'].keys() == weights.keys()
    for name, value in weights.items():
        assert torch.equal(bundle['weights'][name], value), name
    for name, value in runner.model.named_parameters():
        assert not value.requires_grad or torch.equal(value, weights[name]), name
    assert bundle['weights']['passes'] == 6 and (bundle['weights']['average'] == 6).all()
    assert bundle['optimizer']['state'] and bundle['seed'] == 3
    assert (
        torch.serialization.get_unsafe_globals_in_checkpoint(folder / 'run/nan_step6/bundle.pth')
        == []
    )


def test_one_line_names_the_losses_and_the_command(broken):
    folder, message = broken[:2]
    assert '\n' not in message and message.startswith('step 6: the loss is not finite')
    assert 'loss_log nan' in message and 'loss_head' not in message
    command = f'python tools/train.py {folder}/config.py --replay {folder}/run/nan_step6'
    assert message.endswith(command)
    assert not list((folder / 'run').glob('.nan*'))


def test_replay_names_the_module_that_breaks(broken, capsys):
    folder = broken[0]
    bundle = read_checkpoint(folder / 'run/nan_step6/bundle.pth')
    assert launch_replay(RunOptions(str(folder / 'config.py')), folder / 'run/nan_step6') == 0
    shown = capsys.readouterr().out
    assert 'first output that is not finite: log (Log) (its inputs: finite)' in shown
    head = bundle['losses']['loss_head']
    assert f'loss_head: {head:.6g} (in the run: {head:.6g})' in shown  # masks are drawn alike
    assert shown.endswith('reproduced: the loss is not finite\n')


def test_the_batch_that_is_read_again_is_the_one_of_the_step(broken):
    folder, _, _, runner = broken
    bundle = read_checkpoint(folder / 'run/nan_step6/bundle.pth')
    dataset = runner.train_dataloader.dataset
    images = [dataset[index]['inputs'] for index in place_batch(**bundle['batch'])]
    seen = next(hook.batch for hook in runner.hooks if isinstance(hook, Weights))['inputs']
    assert torch.equal(torch.stack(images), seen)


def test_replay_says_if_the_loss_is_finite(broken, tmp_path, capsys):
    folder = broken[0]
    bundle = read_checkpoint(folder / 'run/nan_step6/bundle.pth')
    bundle['weights']['passes'].zero_()
    torch.save(bundle, tmp_path / 'bundle.pth')
    assert launch_replay(RunOptions(str(folder / 'config.py')), tmp_path) == 1
    assert capsys.readouterr().out.endswith('not reproduced: the loss is finite\n')
    bundle['weights']['head.0.bias'].fill_(float('inf'))
    torch.save(bundle, tmp_path / 'bundle.pth')
    assert launch_replay(RunOptions(str(folder / 'config.py')), tmp_path) == 0
    shown = capsys.readouterr().out
    assert 'not finite before the step: head.0.bias' in shown
    assert 'head.0 (Linear) (its inputs: finite)' in shown


@pytest.mark.parametrize(
    ('change', 'part'),
    [
        (lambda b: b.pop('batch'), "'batch' is absent"),
        (lambda b: b['weights'].pop('passes'), 'passes'),
        (lambda b: b.update(batch=None), 'cached features cannot be read again'),
        (lambda b: b['batch'].update(batch=['x']), 'the batch cannot be read again'),
        (lambda b: b['batch'].update(batch=[99]), 'the batch cannot be read again'),
    ],
)
def test_no_bundle_is_one_line(broken, tmp_path, capsys, change, part):
    bundle = read_checkpoint(broken[0] / 'run/nan_step6/bundle.pth')
    change(bundle)
    torch.save(bundle, tmp_path / 'bundle.pth')
    assert launch_replay(RunOptions(str(broken[0] / 'config.py')), tmp_path) == 2
    error = capsys.readouterr().err
    assert part in error and error.count('\n') <= 2


def test_a_healthy_run_is_the_same_with_the_check(tmp_path):
    plain = run(toy_config(tmp_path / 'plain', experiment_name='unchecked'))
    config = toy_config(tmp_path / 'checked', experiment_name='checked')
    config.default_hooks.loss_check = dict(type='LossCheckHook')
    checked = run(config)
    for name, value in plain.model.state_dict().items():
        assert torch.equal(checked.model.state_dict()[name], value), name
    assert not list((tmp_path / 'checked').glob('nan*'))


TWO = """
import sys
from tests.engine.test_replay import *

config = breaking(sys.argv[1], epochs=4, launcher='pytorch', experiment_name='two_broken')
config.dump(f'{sys.argv[1]}.py')
runner, _ = start(config)
runner.model.module.log.register_forward_hook(
    lambda module, inputs, output: output if runner.rank == 1 else inputs[0] * 0
)
try:
    runner.train()
except RunStopped as error:
    print(f'rank {runner.rank}: {error}')
"""


def test_all_processes_stop_at_the_loss_of_one(tmp_path, capsys):
    (tmp_path / 'two.py').write_text(TWO)
    said = run_group(tmp_path / 'log', 2, tmp_path / 'two.py', tmp_path / 'run')
    for rank in range(2):
        assert f'rank {rank}: step 6: the loss is not finite on process 1' in said
    bundle = read_checkpoint(tmp_path / 'run/nan_step6/bundle.pth')
    assert bundle['rank'] == 1
    # One process computes what the second of two did: its images, its draws.
    assert launch_replay(RunOptions(str(tmp_path / 'run.py')), tmp_path / 'run/nan_step6') == 0
    head = f'{bundle["losses"]["loss_head"]:.5g}'
    shown = capsys.readouterr().out
    assert 'process 1' in shown and shown.count(head) == 2


def test_the_command_repeats_the_options():
    options = dict(
        config='c.py', track='sample', seed=2, accumulate=1, cfg_options={'a.b': [1, 2], 'c': 'x'}
    )
    words = "python tools/train.py c.py --sample --seed 2 --cfg-options 'a.b=[1,2]' c=x"
    assert command_of(options) == words
