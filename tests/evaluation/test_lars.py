"""LARS against the update rule of MAE's linear probe, written out in float64."""

import torch
from mmengine.registry import OPTIMIZERS

from comad.evaluation import Lars


def reference(weight, gradients, adapt, lr, momentum, trust):
    weight, velocity = weight.double(), torch.zeros_like(weight).double()
    for gradient in gradients:
        step = gradient.double()
        if adapt:
            norms = weight.norm(), step.norm()
            step = step * (trust * norms[0] / norms[1] if min(norms) > 0 else 1.0)
        velocity = momentum * velocity + step
        weight = weight - lr * velocity
    return weight


def test_updates_follow_the_formula_without_weight_decay():
    torch.manual_seed(0)
    start = {
        'weight': torch.randn(10, 64) * 0.01,
        'bias': torch.randn(10),
        'zero': torch.zeros(3, 4),
    }
    parameters = {name: torch.nn.Parameter(t.clone()) for name, t in start.items()}
    optimizer = OPTIMIZERS.build(
        dict(type='Lars', params=parameters.values(), lr=6.4, momentum=0.9, trust_coeff=0.001)
    )
    gradients = {name: [torch.randn_like(t) for _ in range(5)] for name, t in start.items()}
    for step in range(5):
        for name, parameter in parameters.items():
            parameter.grad = gradients[name][step].clone()
        optimizer.step()
    for name, parameter in parameters.items():
        expected = reference(start[name], gradients[name], name != 'bias', 6.4, 0.9, 0.001)
        torch.testing.assert_close(parameter.detach().double(), expected, rtol=1e-5, atol=1e-6)


def test_gradient_scale_does_not_matter_to_matrices():
    torch.manual_seed(0)
    start, gradient = torch.randn(5, 7), torch.randn(5, 7)
    ends = []
    for factor in (1.0, 1000.0):
        weight = torch.nn.Parameter(start.clone())
        weight.grad = gradient * factor
        Lars([weight], lr=1.0).step()
        ends.append(weight.detach())
    assert not torch.equal(ends[0], start)
    torch.testing.assert_close(ends[0], ends[1])


def test_groups_keep_their_settings_and_vectors_are_never_decayed():
    weight, bias = torch.nn.Parameter(torch.ones(2, 2)), torch.nn.Parameter(torch.ones(2))
    optimizer = Lars([dict(params=[weight, bias], lr=0.5, lr_scale=0.25)], lr=1.0, weight_decay=0.1)
    settings = [
        (g['lr'], g['lr_scale'], g['weight_decay'], g['always_adapt'])
        for g in optimizer.param_groups
    ]
    assert settings == [(0.5, 0.25, 0.1, True), (0.5, 0.25, 0.0, False)]
    bias.grad = torch.zeros(2)
    optimizer.step()
    assert torch.equal(bias.detach(), torch.ones(2))
