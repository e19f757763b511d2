"""What `tests.precision` calls a fault: its bounds are narrow enough to see real ones."""

from contextlib import nullcontext

import pytest
import torch
import torch.nn.functional as F
from timm.layers import Mlp
from torch import Tensor

from comad.methods import comad
from comad.methods.parts import losses
from comad.methods.parts.fusion import ConsensusGate
from tests.methods.test_comad_exact import NETWORKS
from tests.precision import check_step, float64_steps

kl, softmax, gate, token_kl, mlp = (
    losses._kl,
    Tensor.softmax,
    ConsensusGate.__call__,
    losses.token_kl,
    Mlp.forward,
)


def exact(x):
    return x.dtype == torch.float64


def low():
    return torch.is_autocast_enabled('cpu')


def gate_without_the_last_teacher(self, aligned, visible, query):
    if not exact(aligned):
        visible = visible & (torch.arange(visible.shape[1]) < visible.shape[1] - 1)[:, None]
    return gate(self, aligned, visible, query)


# Faults that only the step in bfloat16 has: what, where, the wrong version, what is said.
FAULTS = {
    'losses in bfloat16': (
        (losses, '_kl'),
        lambda target, logits, dim: kl(target.bfloat16(), logits.bfloat16(), dim),
        'is not computed in float32',
    ),
    'autocast around targets and losses': (
        (comad, 'full_precision'),
        lambda like: nullcontext(),
        'is not computed in float32',
    ),
    "the gate's softmax in bfloat16": (
        (Tensor, 'softmax'),
        lambda x, dim: softmax(x.bfloat16(), dim).to(x.dtype),
        'is not computed in float32',
    ),
    'a teacher left out': (
        (ConsensusGate, '__call__'),
        gate_without_the_last_teacher,
        'is not computed in float32',
    ),
    'a loss off by 5 %': (
        (comad, 'token_kl'),
        lambda target, *rest: token_kl(target, *rest) * (1 if exact(target) else 1.05),
        'loss_token is not computed in float32',
    ),
    'an MLP off by 20 %': (
        (Mlp, 'forward'),
        lambda self, x: mlp(self, x) * (1.2 if low() else 1),
        'off by .*, may be by',
    ),
    'ReLU for GELU': (
        (Mlp, 'forward'),
        lambda self, x: self.fc2(F.relu(self.fc1(x))) if low() else mlp(self, x),
        'off by .*, may be by',
    ),
    'a gradient that gets lost': (
        (Mlp, 'forward'),
        lambda self, x: mlp(self, x.detach() if low() else x),
        'other gradients|gradients of .*: off by',
    ),
    'no bfloat16 at all': (
        (torch, 'autocast'),
        lambda *args, **options: nullcontext(),
        'nothing was computed in bfloat16',
    ),
}


def test_faults_are_seen(build_comad, images, monkeypatch):
    model = build_comad(cls_weight=1.0)
    given = model, images, NETWORKS, *float64_steps(model, images, NETWORKS)
    check_step(*given)
    for name, ((owner, attribute), wrong, said) in FAULTS.items():
        with monkeypatch.context() as patched:
            patched.setattr(owner, attribute, wrong)
            with pytest.raises(AssertionError, match=said):
                check_step(*given)
                pytest.fail(f'not seen: {name}')
