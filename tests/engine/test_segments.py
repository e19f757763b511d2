"""Resumed trainings: what may differ, what is refused, and what is recorded of it."""

import json

import pytest

from backbones import CheckpointError
from comad.engine.options import RunOptions
from comad.engine.run_config import load_run_config
from comad.engine.runner import BenchmarkRunner
from comad.engine.schedule_state import current_rates
from comad.engine.segments import (
    SEGMENTS,
    add_segment,
    changes,
    digest_of,
    refusal,
    settings,
    worth_telling,
)
from comad.runs.card import make_card
from comad.runs.questions import of_segments
from tests.engine.resume_toy import Observer, Stop, resume_config

PRETRAIN = 'pretrain_configs/mae_tiny.py'
SCHEDULE = [
    dict(type='LinearLR', start_factor=0.1, by_epoch=False, begin=0, end=4),
    dict(type='CosineAnnealingLR', by_epoch=True, begin=1, convert_to_iter_based=True),
    dict(type='MultiStepLR', by_epoch=True, milestones=[1, 3], gamma=0.5),
]


def decided(**options):
    cfg = load_run_config(RunOptions(PRETRAIN, track='sample', **options), check=False)
    return settings(cfg._cfg_dict.to_dict())


@pytest.mark.parametrize(
    ('key', 'value'),
    [
        ('model.mask_ratio', 0.5),
        ('optim_wrapper.optimizer.lr', 1e-9),
        ('optim_wrapper.paramwise_cfg', {'decay_rate': 0.5}),
        ('train_dataloader.dataset.views.flip', 0.1),
        ('train_dataloader.dataset.subset', {'share': 0.5}),
        ('custom_hooks', [{'type': 'EMAHook'}]),
        ('default_hooks.step_seed', None),
        ('optim_wrapper.dtype', 'bfloat16'),
    ],
)
def test_what_changes_numbers_is_refused_with_both_values(key, value):
    differ = changes(decided(), decided(cfg_options={key: value}))
    assert differ and all(name.startswith(key) for name in differ), differ
    for extend in (False, True):
        line = refusal(differ, extend)
        assert line.startswith(f'the checkpoint was written with {key}')
        assert 'this run has' in line and '--work-dir' in line


@pytest.mark.parametrize(
    ('key', 'value'),
    [
        ('train_dataloader.num_workers', 3),
        ('train_dataloader.pin_memory', False),
        ('train_dataloader.dataset.root', '/elsewhere'),
        ('default_hooks.logger.interval', 1),
        ('default_hooks.checkpoint.interval', 3),
        ('default_hooks.online_probe', None),
        ('visualizer.vis_backends', []),
        ('log_level', 'ERROR'),
        ('env_cfg.cudnn_benchmark', False),
    ],
)
def test_what_changes_no_number_may_differ(key, value):
    assert changes(decided(), decided(cfg_options={key: value})) == {}
    assert decided() == decided(work_dir='elsewhere')


def test_another_schedule_has_to_be_asked_for():
    longer = changes(decided(), decided(cfg_options={'train_cfg.max_epochs': 77}))
    assert list(longer) == ['train_cfg.max_epochs'] and refusal(longer, extend=False) == ''
    flatter = changes(decided(), decided(cfg_options={'param_scheduler.1.eta_min_ratio': 0.5}))
    assert refusal(flatter, extend=True) == '' != refusal(flatter, extend=False)


def start(folder, epochs, stop=None, resume=False, extend=False, **changes):
    """A training as `launch` starts it; returns runner and the learning rate of every step."""
    config = resume_config(folder, resume=resume, **changes)
    config.param_scheduler, config.train_cfg.max_epochs = SCHEDULE, epochs
    runner = BenchmarkRunner.from_cfg(config)
    runner.options = dict(extend=extend, digest=f'digest of {epochs}')
    runner.settings = settings(config._cfg_dict.to_dict())
    rates = {}

    class Rates(Observer):
        def before_train_iter(self, runner, batch_idx, data_batch=None):
            rates[runner.iter] = current_rates(runner)
            super().before_train_iter(runner, batch_idx)

    runner.register_hook(Rates(stop))
    try:
        runner.train()
    except Stop:
        del runner.train_loop.dataloader
    return runner, rates


def test_a_longer_training_goes_on_with_the_rates_of_its_own_schedule(tmp_path):
    _, whole = start(tmp_path / 'whole', 5)
    start(tmp_path / 'part', 3)
    with pytest.raises(CheckpointError) as error:
        start(tmp_path / 'part', 5, resume=True)
    for said in ('train_cfg.max_epochs 3', 'this run has 5', 'add --extend', '--work-dir'):
        assert said in str(error.value)
    runner, rates = start(tmp_path / 'part', 5, resume=True, extend=True)
    assert sorted(rates) == list(range(18, 30))
    assert rates == {step: whole[step] for step in rates}
    first, second = runner.message_hub.get_info(SEGMENTS)
    assert (first['begin'], first['planned'], first['config_digest']) == (0, 18, 'digest of 3')
    assert (second['begin'], second['planned'], second['config_digest']) == (18, 30, 'digest of 5')
    assert digest_of([first, second], 'digest of 5') not in ('digest of 3', 'digest of 5')


def test_inside_of_an_epoch_as_well(tmp_path):
    _, whole = start(tmp_path / 'whole', 5)
    start(tmp_path / 'part', 3, stop=10)
    _, rates = start(tmp_path / 'part', 5, resume=True, extend=True)
    assert rates == {step: whole[step] for step in range(8, 30)}


def test_where_the_rates_are_the_same_until_then_nothing_is_to_be_asked_for(tmp_path):
    """During the warm-up the two schedules are one."""
    _, whole = start(tmp_path / 'whole', 5)
    start(tmp_path / 'part', 3, stop=5)
    runner, rates = start(tmp_path / 'part', 5, resume=True)
    assert rates == {step: whole[step] for step in range(4, 30)}
    assert [part['begin'] for part in runner.message_hub.get_info(SEGMENTS)] == [0, 4]


def test_a_training_cannot_end_before_its_checkpoint(tmp_path):
    start(tmp_path / 'part', 3)
    with pytest.raises(CheckpointError, match='has 18 steps, this training ends after 12'):
        start(tmp_path / 'part', 2, resume=True, extend=True)


def test_the_same_start_again_is_no_new_segment():
    clean = ('a' * 40, False)
    once = add_segment([], 0, 30, 'x', clean)
    assert add_segment(once, 12, 30, 'x', clean) == once and worth_telling(once) == {}
    moved = add_segment(once, 12, 30, 'x', ('b' * 40, False))
    assert [part['begin'] for part in moved] == [0, 12] and digest_of(moved, 'x') == 'x'
    assert worth_telling(moved) == {'segments': moved}
    # What came after the checkpoint that is gone on from is lost.
    assert add_segment(moved, 12, 30, 'x', clean) == once
    assert worth_telling(add_segment([], 0, 30, 'x', ('a' * 40, True)))
    assert worth_telling(add_segment([], 5, 30, 'x', clean))  # of a checkpoint that knew of none


def test_another_job_is_a_segment_and_no_question():
    clean = ('a' * 40, False)
    first = add_segment([], 0, 30, 'x', clean, job='7')
    assert add_segment(first, 5, 30, 'x', clean, job='7') == first  # queued again
    parts = add_segment(first, 5, 30, 'x', clean, job='8')
    assert [part['job'] for part in worth_telling(parts)['segments']] == ['7', '8']
    facts = dict(name='a_tiny', method='a', arch='tiny', architecture=None, params_m=None)
    card = make_card({**facts, **worth_telling(parts)})
    assert card.as_dict()['segments'] == parts and of_segments('student', card.segments) == []


def test_segments_stand_in_the_card_and_keep_its_rows_from_being_ranked():
    facts = dict(name='a_tiny', method='a', arch='tiny', architecture=None, params_m=None)
    assert 'segments' not in make_card(facts).as_dict()
    parts = add_segment([], 0, 18, 'x', ('a' * 40, False))
    parts = add_segment(parts, 18, 30, 'y', ('a' * 40, True))
    card = make_card({**facts, **worth_telling(parts)})
    assert json.loads(json.dumps(card.as_dict()))['segments'] == parts
    assert of_segments('student', card.segments) == [
        'student.segments: trained under 2 configs in turn',
        'student.segments: git_dirty, uncommitted changes',
    ]
    assert of_segments('student', make_card(facts).segments) == []
