"""Losses that are read together are those that would have been read one by one."""

import pytest
import torch
from mmengine.logging import MessageHub

from backbones.checkpoints import read_checkpoint
from comad.engine.autocast import AutocastOptimWrapper
from comad.engine.hooks import DeferredInfoHook
from tests.engine.resume_toy import resume_config, train
from tests.engine.test_exact_resume import compare


def config(folder, hook='DeferredInfoHook', interval=7, **options):
    made = resume_config(folder, by_epoch=False, sampler='InfiniteSampler', **options)
    made.default_hooks.runtime_info = dict(type=hook)
    made.default_hooks.logger.interval = interval
    return made


def history(runner, name='train/loss'):
    values, counts = runner.message_hub.get_scalar(name).data
    return [float(value).hex() for value in values], counts.tolist()


def test_the_hub_and_the_checkpoint_hold_the_same(tmp_path):
    (now, _), (later, _) = (
        train(config(tmp_path / hook, hook)) for hook in ('RuntimeInfoHook', 'DeferredInfoHook')
    )
    assert history(now) == history(later) and len(history(now)[0]) == 18
    saved = [
        read_checkpoint(tmp_path / hook / 'iter_16.pth')['message_hub']['log_scalars']
        for hook in ('RuntimeInfoHook', 'DeferredInfoHook')
    ]
    # Two steps after the last line: what was pending has been written too.
    assert len(saved[1]['train/loss']['history_buffer']) == 16
    assert saved[0]['train/loss'] == saved[1]['train/loss']


def test_a_resumed_run_stays_exact(tmp_path):
    whole = train(config(tmp_path / 'whole'))
    train(config(tmp_path / 'part'), stop=10)
    compare(whole, train(config(tmp_path / 'part', resume=True)), 8)


class FakeRunner:
    hooks = ()
    train_dataloader = ()
    optim_wrapper = None

    def __init__(self, name):
        self.message_hub = MessageHub.get_instance(name)


def test_nothing_is_read_before_it_is_asked_for(monkeypatch):
    transfers = []
    read = torch.Tensor.tolist
    monkeypatch.setattr(torch.Tensor, 'tolist', lambda t: transfers.append(t.numel()) or read(t))
    monkeypatch.setattr(torch.Tensor, 'item', lambda t: pytest.fail('one value was read'))
    hook, runner = DeferredInfoHook(), FakeRunner('pending')
    hook.pending = []
    for step in range(5):
        value = torch.tensor(step / 3, requires_grad=True)
        outputs = dict(loss=value, acc=torch.tensor([0.5 + step]), share=0.25)
        hook.after_train_iter(runner, step, outputs=outputs)
        value.data.fill_(9.0)  # a buffer that the next step overwrites
    assert transfers == []
    hook.flush(runner)
    hook.flush(runner)
    assert transfers == [10]
    losses = runner.message_hub.get_scalar('train/loss').data[0]
    assert losses == pytest.approx([step / 3 for step in range(5)])
    assert runner.message_hub.get_scalar('train/acc').current() == 4.5


def test_precisions_are_kept():
    hook, runner = DeferredInfoHook(), FakeRunner('precisions')
    hook.pending = []
    outputs = dict(
        half=torch.tensor(1 / 3, dtype=torch.bfloat16),
        double=torch.tensor(1 / 3, dtype=torch.float64),
        count=torch.tensor(2**53 + 1),
    )
    hook.after_train_iter(runner, 0, outputs=outputs)
    hook.flush(runner)
    for name, value in outputs.items():
        assert runner.message_hub.get_scalar(f'train/{name}').current() == value.item()


def test_the_norm_of_the_gradients_is_one_of_them(monkeypatch):
    """It is not read when the gradients are clipped, but with the losses."""
    weight = torch.nn.Parameter(torch.zeros(4))
    optimizer = torch.optim.SGD([weight], lr=0.1)
    wrapper = AutocastOptimWrapper(optimizer=optimizer, clip_grad=dict(max_norm=1.0))
    runner, hook = FakeRunner('norms'), DeferredInfoHook()
    runner.optim_wrapper, hook.pending = wrapper, []
    with monkeypatch.context() as patch:
        patch.setattr(torch.Tensor, 'item', lambda t: pytest.fail('one value was read'))
        for scale in (3.0, 0.25):
            wrapper.update_params((scale * weight).sum())
            hook.after_train_iter(runner, 0, outputs={'loss': torch.tensor(scale)})
    assert torch.allclose(weight.detach(), torch.full((4,), -0.1 * (0.5 + 0.25)), atol=1e-5)
    hook.flush(runner)
    history = runner.message_hub.get_scalar('train/grad_norm').data[0]
    assert history.tolist() == [6.0, 0.5]
