"""Teachers under autocast, compiled, and without weights."""

import copy

import pytest
import torch

from backbones import build_teacher, untrained_teachers
from comad.engine.hooks import PrepareMethodHook
from tests.precision import DRAWS, Float64, allowed

SMALL = dict(arch='sample_base', depth=2)


@pytest.fixture
def teacher():
    torch.manual_seed(0)
    with untrained_teachers():
        return build_teacher('mae', 'no/such/file.pth', **SMALL)


@pytest.fixture
def images():
    return torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(1))


def autocast():
    return torch.autocast('cpu', torch.bfloat16)


def test_a_teacher_is_cast_once_and_computes_in_that_type(teacher, images):
    keep = torch.arange(20).expand(2, -1)
    double, rounding = copy.deepcopy(teacher).double(), Float64()
    exact, draws = double.tokens(images.double(), keep), []
    for seed in range(DRAWS):
        rounding.draw(seed)
        with rounding:
            draws.append(rounding.network(double.tokens)(images.double(), keep))
    with autocast():
        tokens = teacher.tokens(images, keep)
        first = [parameter.data_ptr() for parameter in teacher.parameters()]
        again = teacher.tokens(images, keep)
    assert tokens.dtype == torch.bfloat16 and torch.equal(tokens, again)
    assert {parameter.dtype for parameter in teacher.parameters()} == {torch.bfloat16}
    assert first == [parameter.data_ptr() for parameter in teacher.parameters()]
    assert 0 < (tokens.double() - exact).norm() < allowed(exact, draws)


def test_no_autocast_no_cast(teacher, images):
    assert teacher.tokens(images).dtype == torch.float32
    assert teacher.unchanged()


def test_a_cast_teacher_counts_as_unchanged_until_something_changes_it(teacher, images):
    with autocast():
        teacher.tokens(images)
    assert teacher.digest() != teacher.card['digest'] and teacher.unchanged()
    with torch.no_grad():
        teacher.norm.weight[0] += 1
    assert not teacher.unchanged()


def test_a_change_before_the_cast_is_not_forgotten(teacher, images):
    with torch.no_grad():
        teacher.norm.weight[0] += 1
    with autocast():
        teacher.tokens(images)
    assert not teacher.unchanged()


def test_the_hook_tells_a_changed_teacher_from_a_cast_one(teacher, images):
    class Runner:
        iter = 1
        model = torch.nn.ModuleList([teacher])

    with autocast():
        teacher.tokens(images)
    PrepareMethodHook().after_train(Runner)
    with torch.no_grad():
        teacher.norm.weight[0] += 1
    with pytest.raises(RuntimeError, match='the mae teacher changed'):
        PrepareMethodHook().after_train(Runner)


def test_compiled_tokens_are_equal(teacher, images):
    keep = torch.arange(20).expand(2, -1)
    expected = teacher.tokens(images, keep)
    names = list(teacher.state_dict())
    teacher.compile_calls(backend='aot_eager')
    torch.testing.assert_close(teacher.tokens(images, keep), expected)
    assert list(teacher.state_dict()) == names


def test_untrained_teachers_end_with_their_context(teacher):
    assert teacher.card['untrained'] and not any(p.requires_grad for p in teacher.parameters())
    with pytest.raises(Exception, match='no/such/file.pth'):
        build_teacher('mae', 'no/such/file.pth', **SMALL)
