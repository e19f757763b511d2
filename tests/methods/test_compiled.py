"""Compiled parts compute what plain ones do, and weights keep their names."""

import copy

import pytest
import torch

import comad.engine.register  # noqa: F401
from comad.engine.flops import count_training
from tests.methods.small_run import PROBE, run, small_config


def step(model, images):
    torch.manual_seed(3)
    losses = model.loss(images)
    sum(value for name, value in losses.items() if 'loss' in name).backward()
    return losses


def test_comad_with_compiled_parts(build_comad, images):
    plain = build_comad()
    compiled = copy.deepcopy(plain)
    compiled.compile_parts(backend='aot_eager')
    expected, found = step(plain, images), step(compiled, images)
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, rtol=1e-4, atol=1e-5)
    assert list(compiled.state_dict()) == list(plain.state_dict())
    gradients = dict(plain.named_parameters())
    for name, parameter in compiled.named_parameters():
        if parameter.grad is not None:
            torch.testing.assert_close(
                parameter.grad, gradients[name].grad, rtol=1e-3, atol=1e-6, msg=name
            )


def test_every_block_is_compiled_and_teachers_as_a_whole(build_comad):
    model = build_comad()
    model.compile_parts(backend='eager')
    assert all(block._compiled_call_impl is not None for block in model.backbone.blocks)
    assert all(block._compiled_call_impl is not None for block in model.decoder.blocks)
    for teacher in model.teacher_networks:
        assert '_network_tokens' in vars(teacher)
        assert all(block._compiled_call_impl is None for block in teacher.blocks)


def test_counted_operations_do_not_depend_on_compiling(build_comad, images):
    pixels = torch.randint(0, 256, (4, 3, 32, 32), dtype=torch.uint8)
    model = build_comad(data_preprocessor=dict(type='ImageDataPreprocessor'))
    count_training(model, dict(inputs=pixels), 4)  # the first step computes diagnostics as well
    plain = count_training(model, dict(inputs=pixels), 4)
    model.compile_parts(backend='aot_eager')
    assert count_training(model, dict(inputs=pixels), 4) == plain > 0


@pytest.mark.slow
def test_a_whole_run_compiled_and_in_bfloat16(teachers, tmp_path):
    """Figures, probe and the check of the teachers work on cast and compiled networks too."""
    model = dict(type='CoMAD', teachers=teachers, n_fit=16, decoder=dict(arch='sample_tiny'))
    figure = dict(type='PretrainFigureHook', images=2, points=6, resize=32)
    config = small_config(
        tmp_path,
        'compiled',
        model,
        hooks=dict(probe=PROBE, figure=figure),
        compile=dict(backend='eager'),
    )
    config.optim_wrapper.update(type='AutocastOptimWrapper', dtype='bfloat16')
    runner = run(config)
    blocks = runner.model.backbone.blocks
    assert all(block._compiled_call_impl is not None for block in blocks)
    assert all(p.dtype == torch.float32 for p in runner.model.backbone.parameters())
    for teacher in runner.model.teacher_networks:
        assert {p.dtype for p in teacher.parameters()} == {torch.bfloat16}
    for name in ('diagnostics.png', 'consensus.png'):
        assert (tmp_path / 'compiled' / name).is_file()
    assert len(runner.message_hub.get_info('online_probe')) == 2
