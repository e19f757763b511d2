"""A run that is killed and resumed equals the uninterrupted one to the last bit."""

import pytest
import torch

from backbones import CheckpointError
from backbones.checkpoints import read_checkpoint
from comad.engine.checkpoint_files import last_checkpoint
from tests.engine.resume_toy import resume_config, train
from tests.programs import run_group

EVERY_EPOCH = dict(type='SafeCheckpointHook', interval=1, max_keep_ckpts=2)
RATIOS = dict(batch_sampler=dict(type='mmdet.AspectRatioBatchSampler'))


def compare(whole, resumed, first):
    """Losses from ``first`` on, weights, optimizer, schedule and logged history."""
    (whole, observed), (resumed, repeated) = whole, resumed
    assert sorted(repeated.losses) == list(range(first, 18))
    assert repeated.losses == {step: observed.losses[step] for step in repeated.losses}
    for name, tensor in whole.model.state_dict().items():
        assert torch.equal(tensor, resumed.model.state_dict()[name]), name
    for kind in ('log_scalars', 'runtime_info'):
        assert set(getattr(whole.message_hub, kind)) == set(getattr(resumed.message_hub, kind))
    for name in ('train/loss', 'train/lr'):
        buffers = [run.message_hub.get_scalar(name) for run in (whole, resumed)]
        assert buffers[0].data[0].tolist() == buffers[1].data[0].tolist()
    assert whole.message_hub.get_info('images_seen') == resumed.message_hub.get_info('images_seen')
    states = [run.optim_wrapper.optimizer.state_dict()['state'] for run in (whole, resumed)]
    for index, state in states[0].items():
        assert all(torch.equal(state[name], states[1][index][name]) for name in state)


def interrupted(folder, stop, **options):
    train(resume_config(folder / 'part', **options), stop=stop)
    assert (
        torch.serialization.get_unsafe_globals_in_checkpoint(last_checkpoint(folder / 'part')) == []
    )
    return train(resume_config(folder / 'part', resume=True, **options))


@pytest.mark.parametrize('workers', [0, 2])
@pytest.mark.parametrize(
    ('options', 'stop', 'first'),
    [
        (dict(by_epoch=True), 10, 8),
        (dict(by_epoch=True, checkpoint=EVERY_EPOCH), 10, 6),
        (dict(by_epoch=False, sampler='InfiniteSampler'), 10, 8),
        (dict(by_epoch=False), 15, 12),
    ],
    ids=['inside an epoch', 'between epochs', 'iterations', 'iterations of a finite sampler'],
)
def test_resumed_equals_whole(tmp_path, workers, options, stop, first):
    whole = train(resume_config(tmp_path / 'whole', workers=workers, **options))
    resumed = interrupted(tmp_path, stop, workers=workers, **options)
    compare(whole, resumed, first)


# Before the first checkpoint there is nothing to resume: the run would just start again.
@pytest.mark.parametrize(('stop', 'interval'), [(1, 1), (13, 1), (9, 6), (17, 6)])
def test_any_step_will_do(tmp_path, stop, interval):
    hook = dict(type='SafeCheckpointHook', by_epoch=False, interval=interval)
    whole = train(resume_config(tmp_path / 'whole', checkpoint=hook))
    compare(whole, interrupted(tmp_path, stop, checkpoint=hook), stop // interval * interval)


def test_the_number_of_workers_changes_nothing(tmp_path):
    runs = [train(resume_config(tmp_path / f'{n}', workers=n)) for n in (0, 1, 3)]
    for other in runs[1:]:
        compare(runs[0], other, 0)


@pytest.mark.parametrize('by_epoch', [True, False])
def test_batches_of_equal_aspect_ratio(tmp_path, by_epoch):
    pytest.importorskip('mmdet')
    import mmdet.datasets.samplers  # noqa: F401

    options = dict(by_epoch=by_epoch, loader=RATIOS)
    whole = train(resume_config(tmp_path / 'whole', **options))
    compare(whole, interrupted(tmp_path, 10, **options), 8)


def test_averaged_weights_go_on(tmp_path):
    options = dict(hooks=[dict(type='EMAHook', momentum=0.3)], validate=True)
    whole = train(resume_config(tmp_path / 'whole', **options))
    resumed = interrupted(tmp_path, 10, **options)
    compare(whole, resumed, 8)
    assert resumed[1].validated == whole[1].validated[1:]
    ema = [next(h for h in r.hooks if type(h).__name__ == 'EMAHook') for r, _ in (whole, resumed)]
    for one, other in zip(*(hook.ema_model.state_dict().values() for hook in ema), strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize(
    ('checkpoint', 'steps'),
    [(None, [6, 9]), (EVERY_EPOCH, [6])],
    ids=['every 4 steps', 'every epoch'],
)
def test_accumulated_gradients_are_waited_for(tmp_path, checkpoint, steps):
    options = dict(accumulate=3, checkpoint=checkpoint)
    whole = train(resume_config(tmp_path / 'whole', **options))
    train(resume_config(tmp_path / 'part', **options), stop=11)
    saved = [read_checkpoint(path)['meta']['iter'] for path in (tmp_path / 'part').glob('*.pth')]
    assert sorted(saved) == steps
    resumed = train(resume_config(tmp_path / 'part', resume=True, **options))
    compare(whole, resumed, steps[-1])
    assert read_checkpoint(last_checkpoint(tmp_path / 'whole'))['meta']['iter'] == 18


def test_an_epochs_checkpoint_waits_too(tmp_path):
    """Epochs of 6 steps and updates every 4: epoch 1 is saved at step 8, inside epoch 2."""
    options = dict(accumulate=4, checkpoint=EVERY_EPOCH)
    whole = train(resume_config(tmp_path / 'whole', **options))
    resumed = interrupted(tmp_path, 10, **options)
    compare(whole, resumed, 8)


@pytest.mark.parametrize('by_epoch', [True, False])
def test_a_due_validation_comes_first(tmp_path, by_epoch):
    save = dict(type='SafeCheckpointHook', by_epoch=by_epoch, interval=1 if by_epoch else 5)
    options = dict(by_epoch=by_epoch, validate=True, checkpoint=save)
    due = 12 if by_epoch else 10
    whole = train(resume_config(tmp_path / 'whole', **options))
    train(resume_config(tmp_path / 'part', **options), stop_validation=due)
    resumed = train(resume_config(tmp_path / 'part', resume=True, **options))
    compare(whole, resumed, due)
    assert [step for step, _ in resumed[1].validated] == ([12, 18] if by_epoch else [10, 15, 18])
    assert resumed[1].validated == whole[1].validated[1:]


def test_the_last_validation_is_made_up_for(tmp_path):
    train(resume_config(tmp_path / 'part', validate=True), stop_validation=18)
    # The checkpoint was written after step 18 and before the end of its epoch.
    _, observer = train(resume_config(tmp_path / 'part', validate=True, resume=True))
    assert observer.losses == {} and [step for step, _ in observer.validated] == [18]


@pytest.mark.parametrize('workers', [0, 2])
@pytest.mark.parametrize('by_epoch', [True, False])
def test_images_that_were_seen_are_not_read_again(tmp_path, by_epoch, workers):
    options = dict(by_epoch=by_epoch, sampler='DefaultSampler' if by_epoch else 'InfiniteSampler')
    train(resume_config(tmp_path / 'part', **options), stop=10)
    notes = tmp_path / 'notes'
    config = resume_config(
        tmp_path / 'part', resume=True, notes=str(notes), workers=workers, **options
    )
    train(config)
    read = [int(line) for line in notes.read_text().split()]
    if by_epoch:
        assert len(read) == 2 * 23 - 8
    else:  # workers read ahead of an endless stream
        assert 40 <= len(read) <= 40 + (0 if workers == 0 else 4 * (2 * workers + 1))


@pytest.mark.parametrize('lost', ['optimizer', 'param_schedulers'])
def test_losing_a_state_is_noticed(tmp_path, lost):
    """The negative control: without it the comparison might compare nothing."""
    whole = train(resume_config(tmp_path / 'whole'))
    train(resume_config(tmp_path / 'part'), stop=10)
    path = last_checkpoint(tmp_path / 'part')
    content = read_checkpoint(path)
    if lost == 'optimizer':
        content['optimizer']['state'] = {}
    else:
        content['param_schedulers'][0]['last_step'] = 0
    torch.save(content, path)
    resumed = train(resume_config(tmp_path / 'part', resume=True))
    with pytest.raises(AssertionError):
        compare(whole, resumed, 8)


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        (dict(randomness=dict(seed=4)), 'with seed 3, this run has 4'),
        (dict(batch_size=2), 'with images per step 4, this run has 2'),
        (dict(accumulate=2), 'with accumulated batches 1, this run has 2'),
    ],
)
def test_another_run_is_refused(tmp_path, change, message):
    train(resume_config(tmp_path / 'part'), stop=10)
    with pytest.raises(CheckpointError, match=message):
        train(resume_config(tmp_path / 'part', resume=True, **change))


def in_processes(folder, name, processes, stop=0, resume=False, batch_size=2):
    """Weights, losses and validations of every process."""
    options = [folder / name, stop, 'resume' if resume else 'new', batch_size]
    said = run_group(folder / 'log', processes, 'tests.engine.resume_toy', *options, module=True)
    return [torch.load(folder / f'{name}_{rank}.pt') for rank in range(processes)], said


@pytest.mark.slow
def test_two_processes_resume_exactly(tmp_path):
    whole, _ = in_processes(tmp_path, 'whole', 2)
    in_processes(tmp_path, 'part', 2, stop=10)
    resumed, _ = in_processes(tmp_path, 'part', 2, resume=True)
    for rank in range(2):
        # Every process keeps its own batch statistics, also over the checkpoint.
        assert resumed[rank]['weights'] == whole[rank]['weights']
        assert resumed[rank]['validated'] == whole[rank]['validated'][1:]
        losses = whole[rank]['losses']
        assert resumed[rank]['losses'] == {step: losses[step] for step in range(8, 18)}
    assert whole[0]['losses'] != whole[1]['losses']
    assert whole[0]['weights'] != whole[1]['weights']


@pytest.mark.slow
def test_one_process_takes_over_from_two(tmp_path):
    in_processes(tmp_path, 'part', 2, stop=10)
    taken, said = in_processes(tmp_path, 'part', 1, resume=True, batch_size=4)
    assert sorted(taken[0]['losses']) == list(range(8, 18))
    assert 'resuming with 1 instead of 2 processes' in said
