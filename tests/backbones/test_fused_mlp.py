"""MLPs of frozen networks in one product."""

from functools import partial

import pytest
import timm
import torch
from timm.layers import GluMlp, Mlp
from torch import nn

from backbones import build_teacher, untrained_teachers
from backbones.fused_mlp import fuse_mlps


@pytest.mark.parametrize('shape', [(3, 8), (2, 5, 8), (2, 3, 3, 8)])
def test_it_is_the_same_function(shape):
    torch.manual_seed(0)
    network, x = nn.Sequential(Mlp(8, 32), Mlp(8, 16)), torch.randn(shape)
    wanted = network(x)
    assert fuse_mlps(network) == 2
    found = network(x)
    assert found.shape == wanted.shape
    # A CPU computes the exact GELU, cuBLAS the tanh form.
    assert torch.allclose(found, wanted, atol=1e-6)


@pytest.mark.parametrize(
    'mlp',
    [
        Mlp(8, 32, act_layer=nn.SiLU),
        Mlp(8, 32, norm_layer=nn.LayerNorm),
        Mlp(8, 32, bias=False),
        Mlp(8, 32, use_conv=True),
        GluMlp(8, 32),
    ],
    ids=['activation', 'norm', 'no bias', 'convolution', 'gated'],
)
def test_another_function_stays_as_it_is(mlp):
    assert fuse_mlps(mlp) == 0 and 'forward' not in vars(mlp)


def test_networks_of_timm_have_such_mlps():
    names = ('deit_tiny_patch16_224', 'swin_tiny_patch4_window7_224', 'mixer_s32_224')
    build = partial(timm.create_model, pretrained=False)
    assert [fuse_mlps(build(name)) for name in names] == [12, 12, 16]  # a mixer has two per block


@pytest.mark.gpu
def test_a_teacher_on_a_gpu_is_as_near_to_float32_as_without():
    with untrained_teachers():
        teacher = build_teacher('mae', 'none.pth').cuda()
    images = torch.randn(8, 3, 224, 224, device='cuda')
    exact = teacher.tokens(images)

    def error(tokens):
        return float((tokens - exact).norm() / exact.norm())

    plain = [type(block.mlp).forward.__get__(block.mlp) for block in teacher.blocks]
    with torch.autocast('cuda', torch.bfloat16):
        fused = error(teacher.tokens(images))
        for block, forward in zip(teacher.blocks, plain, strict=True):
            assert 'forward' in vars(block.mlp)
            block.mlp.forward = forward
        unfused = error(teacher.tokens(images))
    assert 0 < fused < 1.1 * unfused < 0.02
