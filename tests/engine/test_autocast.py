"""Mixed precision on any device: what is computed in bfloat16 and what stays."""

import pytest
import torch
from mmengine.registry import OPTIM_WRAPPERS
from torch import nn

from comad.engine.autocast import AutocastOptimWrapper
from comad.engine.run_config import RunOptions, load_run_config
from comad.tasks.fields import training
from comad.tasks.protocol import ProtocolReader


def wrapper(model, **options):
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    return OPTIM_WRAPPERS.build(dict(type='AutocastOptimWrapper', optimizer=optimizer, **options))


@pytest.mark.parametrize(
    ('dtype', 'seen'), [('bfloat16', torch.bfloat16), ('float32', torch.float32)]
)
def test_products_are_in_the_type_and_weights_in_float32(dtype, seen):
    model = nn.Linear(4, 3)
    with wrapper(model, dtype=dtype).optim_context(model):
        out = model(torch.randn(2, 4))
    assert out.dtype == seen
    out.float().sum().backward()
    assert model.weight.dtype == model.weight.grad.dtype == torch.float32


def test_float16_is_refused_with_what_works():
    with pytest.raises(ValueError, match="'float16'.*AmpOptimWrapper"):
        AutocastOptimWrapper('float16')


def precision(config):
    return training(ProtocolReader(config))['precision']


def test_records_tell_the_precision():
    for options, expected in (
        (dict(type='AutocastOptimWrapper'), 'bfloat16'),
        (dict(type='AutocastOptimWrapper', dtype='float32'), 'float32'),
        (dict(type='AmpOptimWrapper'), 'float16'),
        (dict(type='OptimWrapper'), 'float32'),
    ):
        assert precision(dict(optim_wrapper=options)) == expected


def test_pretraining_is_in_bfloat16_at_full_scale_and_not_on_the_sample():
    path = 'pretrain_configs/comad_tiny.py'
    for sample, expected in ((False, 'bfloat16'), (True, 'float32')):
        cfg = load_run_config(RunOptions(path, track='sample' if sample else 'full'), check=False)
        assert precision(cfg._cfg_dict.to_dict()) == expected
        assert cfg.compile == (False if sample else 'auto')


def test_amp_turns_it_on_for_any_task():
    path = 'seg_configs/upernet_comad_tiny.py'
    cfg = load_run_config(RunOptions(path, amp=True), check=False)
    assert cfg.optim_wrapper.type == 'AutocastOptimWrapper'
    assert cfg.optim_wrapper.dtype == 'bfloat16'


def test_each_gradient_is_clipped_by_itself():
    """iBOT's and DINO's code: a factor max / (norm + 1e-6) for each tensor whose norm is larger."""
    model = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 5))
    clip = dict(max_norm=0.5, per_tensor=True)
    optim_wrapper = wrapper(model, dtype='float32', clip_grad=clip)
    assert clip == dict(max_norm=0.5, per_tensor=True)
    gradients = [torch.randn_like(p) * 10**-i for i, p in enumerate(model.parameters())]
    for parameter, gradient in zip(model.parameters(), gradients, strict=True):
        parameter.grad = gradient.clone()
    optim_wrapper._clip_grad()
    norms = [float(gradient.norm()) for gradient in gradients]
    assert max(norms) > 0.5 > min(norms)
    for parameter, gradient, norm in zip(model.parameters(), gradients, norms, strict=True):
        expected = gradient * min(1.0, 0.5 / (norm + 1e-6))
        assert torch.allclose(parameter.grad, expected, rtol=1e-6, atol=0)
