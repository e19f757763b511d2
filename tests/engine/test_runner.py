"""The Runner's promises: complete weights under every scope, plain checkpoints, exact resume."""

import pytest
import torch

from backbones import CheckpointError, MaskedViT, save_student
from backbones.checkpoints import read_checkpoint
from comad.engine.checkpoint_files import last_checkpoint
from tests.engine.toy import run, toy_config
from tests.programs import run_group


@pytest.fixture
def weights(tmp_path):
    """A student file and a teacher file with known tensors."""
    student = MaskedViT('sample_tiny')
    path = save_student(tmp_path / 'student', student, dict(name='toy_tiny', track='sample'))
    teacher = MaskedViT('sample_base')
    torch.save(dict(model=teacher.state_dict()), tmp_path / 'teacher.pth')
    return student, path, teacher, tmp_path / 'teacher.pth'


class Stop(Exception):
    """Raised by a hook to end a run at a chosen moment."""


def stop_before_step(step):
    from mmengine.hooks import Hook

    class StopHook(Hook):
        priority = 'HIGHEST'

        def before_train_iter(self, runner, batch_idx, data_batch=None):
            if runner.iter == step:
                raise Stop

    return StopHook()


@pytest.mark.parametrize('scope', ['mmengine', 'mmseg', 'mmdet'])
def test_weights_equal_their_files_after_the_runner_has_started(tmp_path, weights, scope):
    import comad.engine.register  # noqa: F401
    from comad.engine.runner import BenchmarkRunner

    student, path, teacher, teacher_path = weights
    config = toy_config(
        tmp_path / scope,
        scope=scope,
        experiment_name=f'init_{scope}',
        init_cfg=dict(type='StudentWeights', checkpoint=str(path), track='sample'),
        teacher=dict(family='mae', checkpoint=str(teacher_path), arch='sample_base'),
    )
    runner = BenchmarkRunner.from_cfg(config)
    runner.register_hook(stop_before_step(0))
    with pytest.raises(Stop):
        runner.train()
    for name, tensor in runner.model.backbone.state_dict().items():
        assert torch.equal(tensor, student.state_dict()[name]), name
    held = dict(runner.model.teachers[0].named_parameters())
    assert len(held) == len(teacher.state_dict())
    for name, tensor in held.items():
        assert torch.equal(tensor, teacher.state_dict()[name]), name
    assert not runner.model.teachers[0].training


def test_checkpoints_are_plain_small_and_pruned_last(tmp_path, weights):
    teacher = dict(family='mae', checkpoint=str(weights[3]), arch='sample_base')
    run(toy_config(tmp_path / 'run', epochs=3, teacher=teacher, experiment_name='plain'))
    assert sorted(p.name for p in (tmp_path / 'run').glob('*.pth')) == [
        'epoch_2.pth',
        'epoch_3.pth',
    ]
    path = last_checkpoint(tmp_path / 'run')
    assert path.name == 'epoch_3.pth'
    assert torch.serialization.get_unsafe_globals_in_checkpoint(path) == []
    assert not any(key.startswith('teachers') for key in read_checkpoint(path)['state_dict'])


def test_a_resumed_run_equals_the_uninterrupted_one(tmp_path):
    whole = run(toy_config(tmp_path / 'whole', epochs=4, experiment_name='whole'))
    # The first part must have the same schedule: it is stopped, not configured shorter.
    from comad.engine.runner import BenchmarkRunner

    part = BenchmarkRunner.from_cfg(toy_config(tmp_path / 'part', epochs=4, experiment_name='part'))
    part.register_hook(stop_before_step(10))
    with pytest.raises(Stop):
        part.train()
    assert last_checkpoint(tmp_path / 'part').name == 'epoch_2.pth'
    resumed = run(toy_config(tmp_path / 'part', epochs=4, experiment_name='resumed', resume=True))
    for name, tensor in resumed.model.state_dict().items():
        assert torch.equal(tensor, whole.model.state_dict()[name]), name
    info = resumed.message_hub.runtime_info
    assert info['images_seen'] == whole.message_hub.runtime_info['images_seen'] == 64


def test_resume_does_not_need_the_student_file(tmp_path, weights):
    init_cfg = dict(type='StudentWeights', checkpoint=str(weights[1]), track='sample')
    run(toy_config(tmp_path / 'run', epochs=1, init_cfg=init_cfg, experiment_name='first'))
    weights[1].unlink()
    run(toy_config(tmp_path / 'run', init_cfg=init_cfg, experiment_name='second', resume=True))
    with pytest.raises(CheckpointError, match='does not exist'):
        run(toy_config(tmp_path / 'other', init_cfg=init_cfg, experiment_name='third'))


def test_a_partial_checkpoint_is_refused(tmp_path):
    run(toy_config(tmp_path / 'run', epochs=1, experiment_name='partial'))
    path = last_checkpoint(tmp_path / 'run')
    content = read_checkpoint(path)
    del content['state_dict']['backbone.norm.weight']
    torch.save(content, path)
    path.with_name(path.name + '.sha256').unlink()
    with pytest.raises(RuntimeError, match='backbone.norm.weight'):
        run(toy_config(tmp_path / 'run', experiment_name='partial_2', resume=True))


def test_two_cpu_processes_train_in_agreement(tmp_path):
    said = run_group(tmp_path / 'log', 2, 'tests.engine.toy', tmp_path / 'two', module=True)
    lines = sorted(line for line in said.splitlines() if line.startswith('rank'))
    assert [line.split(':')[0] for line in lines] == ['rank 0 of 2', 'rank 1 of 2']
    assert lines[0].split(': ')[1] == lines[1].split(': ')[1]


def test_two_runs_that_begin_in_the_same_second_share_no_log(tmp_path, monkeypatch):
    monkeypatch.setattr('time.strftime', lambda *_: '20260101_000000')
    first, second = (run(toy_config(tmp_path / name, epochs=1)) for name in ('first', 'second'))
    assert first.timestamp != second.timestamp
    assert first.logger is not second.logger and first.message_hub is not second.message_hub
    assert len(second.message_hub.get_scalar('train/loss').data[0]) == 4
