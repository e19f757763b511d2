"""Compiled parts compute what plain ones do, and weights keep their names."""

import copy

import torch


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
