"""When CoMAD's two alarms speak, and what the figures per step are."""

import pytest
import torch
from mmengine.logging import MMLogger

from comad.methods.parts.diagnostics import ConsensusDiagnostics
from comad.methods.parts.fusion import Gate

EVEN, WON = torch.tensor([0.4, 0.3, 0.3]), torch.tensor([0.05, 0.9, 0.05])


@pytest.fixture
def lines(monkeypatch):
    found = []
    monkeypatch.setattr(MMLogger.get_current_instance(), 'warning', found.append)
    return found


@pytest.fixture
def diagnostics():
    return ConsensusDiagnostics(('mae', 'mocov3', 'ibot'), 192, tau=0.1, every=50, alarm_steps=500)


def test_a_winning_teacher_is_reported_once(diagnostics, lines):
    for _ in range(9):
        diagnostics.watch(WON, 50.0, 50.0, 1.0)
    assert lines == []
    for _ in range(20):
        diagnostics.watch(WON, 50.0, 50.0, 1.0)
    assert len(lines) == 1 and 'mocov3' in lines[0] and '90%' in lines[0] and 'tau=0.1' in lines[0]


def test_a_break_starts_the_count_again(diagnostics, lines):
    for _ in range(3):
        for _ in range(9):
            diagnostics.watch(WON, 50.0, 50.0, 1.0)
        diagnostics.watch(EVEN, 50.0, 50.0, 1.0)
    assert lines == []


def test_a_single_teacher_wins_without_an_alarm(lines):
    alone = ConsensusDiagnostics(('mae',), 192, tau=0.1, every=50, alarm_steps=50)
    alone.watch(torch.ones(1), 50.0, 50.0, 1.0)
    assert lines == []


@pytest.mark.parametrize('rank', [3.7, float('nan')])
def test_collapse_names_value_bound_and_way_out(diagnostics, lines, rank):
    for _ in range(10):
        diagnostics.watch(EVEN, 50.0, rank, 1.0)
    (line,) = lines
    assert 'student tokens' in line and 'below 3.8 of 192' in line and f'{rank:.2f}' in line
    assert 'learning rate' in line
    for _ in range(10):
        diagnostics.watch(EVEN, 1.2, rank, 1.0)
    assert len(lines) == 2 and 'the targets' in lines[1]


def test_two_directions_are_the_least_of_a_narrow_student():
    assert ConsensusDiagnostics(('mae',), 64, 0.1).smallest_rank == 2.0
    assert ConsensusDiagnostics(('mae',), 768, 0.1).smallest_rank == pytest.approx(15.36)


def test_ranks_are_looked_at_first_and_then_with_every_log_line(lines):
    every = ConsensusDiagnostics(('a', 'b'), 8, 0.1, every=5)
    weights = torch.full((2, 2, 6), 0.5)
    given = Gate(weights, weights), torch.arange(3).expand(2, 3)
    tokens = torch.randn(2, 3, 8)
    looks = [step for step in range(1, 12) if 'target_rank' in every(*given, tokens, tokens)]
    assert looks == [1, 5, 10]


def test_figures_are_those_of_the_students_patches_and_never_called_loss():
    weights = torch.zeros(2, 2, 6)
    weights[:, 0, :3], weights[:, 1, 3:] = 1.0, 1.0
    keep = torch.tensor([[0, 1, 2], [0, 1, 3]])
    tokens = torch.randn(2, 3, 8)
    out = ConsensusDiagnostics(('a', 'b'), 8, 0.1)(Gate(weights, weights / 2), keep, tokens, tokens)
    assert float(out['share_a']) == pytest.approx(5 / 6)
    assert float(out['agreement_b']) == pytest.approx(1 / 12)
    assert float(out['gate_entropy']) == 0
    assert not any('loss' in name for name in out)


def test_a_low_rank_at_the_start_is_no_collapse(diagnostics, lines):
    for _ in range(20):
        diagnostics.watch(EVEN, 50.0, 1.5, 0.05)
    assert lines == []
    for _ in range(10):
        diagnostics.watch(EVEN, 50.0, 1.5, 0.1)
    assert len(lines) == 1 and 'student tokens' in lines[0]


@pytest.mark.parametrize('options', [dict(every=0), dict(alarm_steps=0), dict(collapse_rank=1.0)])
def test_bad_options_are_named(options):
    (value,) = options.values()
    with pytest.raises(ValueError, match=f'={value}'):
        ConsensusDiagnostics(('a',), 8, 0.1, **options)


def test_a_constant_joint_target_is_noticed(build_comad, images, lines):
    model = build_comad(align='joint', diagnostics_every=1, alarm_steps=3)
    model.progress = lambda: 0.5
    for adapter in model.alignment.adapters:
        torch.nn.init.zeros_(adapter.weight)
        adapter.bias.data.copy_(torch.linspace(-1, 1, 32))
    for _ in range(4):
        model(images)
    assert sum('the targets have had' in line for line in lines) == 1
