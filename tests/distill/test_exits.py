"""OFA-KD's exits: layers, sizes and what they compute."""

import pytest
import torch
from torch import nn

from backbones import StagedClassifier
from comad.distill.exits import CNNExit, MergePatches, SeparableConv, TokenExit, build_exit

# Millions of parameters of all four, 10 classes, a ResNet-50 of 2048 channels as the teacher.
SIZES = {'resnet18': 3.05, 'mobilenetv2': 3.28, 'resmlp_small': 14.80}


@pytest.mark.parametrize('arch', SIZES)
def test_exits_have_the_published_sizes(arch):
    student = StagedClassifier(arch=arch, num_classes=10)
    exits = [build_exit(stage, student, 2048, 10) for stage in (1, 2, 3, 4)]
    found = sum(p.numel() for made in exits for p in made.parameters()) / 1e6
    assert round(found, 2) == SIZES[arch]


@pytest.mark.parametrize(
    'arch', ['resnet18', 'mobilenetv2', 'deit_tiny', 'swin_pico', 'resmlp_small']
)
def test_exits_of_full_size_give_class_scores(arch):
    student = StagedClassifier(arch=arch, num_classes=10)
    shapes = []
    for stage in (1, 2, 3, 4):
        width, grid = student.widths[stage - 1], student.grids[stage - 1]
        if student.family == 'cnn':
            x = torch.zeros(2, width, grid, grid)
        else:
            x = torch.zeros(2, student.num_prefix + grid**2, width)
        made = build_exit(stage, student, 768, 10)
        shapes.append(tuple(made(x).shape))
        if student.family == 'token':
            assert len(made.blocks) == max(4 - stage, 1)
            assert len(made.merge) == {56: 3, 28: 2, 14: 1, 7: 0}[grid]
    assert shapes == [(2, 10)] * 4


def test_a_cnns_exit_halves_down_to_stage_four():
    student = StagedClassifier(arch='resnet18', num_classes=10)
    made = CNNExit(1, student, 768, 10)
    convs = [m for m in made if isinstance(m, SeparableConv)]
    assert [(m[0].in_channels, m[5].out_channels) for m in convs] == [
        (64, 128),
        (128, 256),
        (256, 768),
    ]
    assert all(c.bias is None for m in convs for c in m if isinstance(c, nn.Conv2d))
    last = CNNExit(4, student, 384, 10)
    assert isinstance(last[0], nn.Conv2d) and last[0].out_channels == 512
    assert last[0].bias is not None


def test_a_vits_exit_reads_its_class_token():
    student = StagedClassifier(arch='deit_tiny', num_classes=10)
    made = build_exit(3, student, 768, 10).eval()
    assert isinstance(made, TokenExit) and made.num_prefix == 1
    (block,) = made.blocks
    assert block.attn.num_heads == 4 and block.attn.qkv.bias is None
    assert block.norm1.eps == 1e-5 and isinstance(made.merge[0].act, nn.GELU)
    x = torch.randn(2, 197, 192)
    with torch.no_grad():
        tokens = torch.cat([x[:, :1], made.merge(x[:, 1:])], dim=1)
        wanted = made.classifier(block(tokens)[:, 0])
        assert torch.equal(made(x), wanted)


def test_merging_keeps_swins_order():
    x = torch.arange(16.0).view(1, 16, 1)
    merge = MergePatches(1, 4, nn.Identity())
    merge.norm = nn.Identity()
    nn.init.eye_(merge.reduction.weight)
    # Of the upper left 2 x 2 patches 0, 1, 4 and 5: by columns.
    assert merge(x)[0, 0].tolist() == [0, 4, 1, 5]
    assert merge(x)[0, 3].tolist() == [10, 14, 11, 15]


def test_grids_that_do_not_fit_are_refused():
    student = StagedClassifier(arch='sample_swin_tiny', num_classes=10)
    with pytest.raises(ValueError, match='expected final_grid below 16'):
        build_exit(1, student, 64, 10, final_grid=16)
