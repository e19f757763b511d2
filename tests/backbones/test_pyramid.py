"""Pyramids: strides for every patch size, published layers at 16 px, the check of a whole model."""

from types import SimpleNamespace

import pytest
import torch
from torch import nn

from backbones import MultiLevelPyramid, SimpleFeaturePyramid, check_strides
from backbones.pyramid import LayerNorm2d

SIDE = 448  # a multiple of 8, 14, 16, 32 and 64


def stride_of(output):
    assert SIDE % output.shape[-1] == 0 and output.shape[-1] == output.shape[-2]
    return SIDE // output.shape[-1]


@pytest.mark.parametrize('kind', [MultiLevelPyramid, SimpleFeaturePyramid])
def test_standardized_pyramids_take_size_and_mean_of_channels_out(kind):
    x, scale, shift = torch.randn(4, 16, 8, 8), 5 * torch.rand(16) + 1, 9 * torch.randn(16)
    moved = x * scale.view(-1, 1, 1) + shift.view(-1, 1, 1)
    for standardize in (False, True):
        pyramid = kind(16, patch_size=8, out_channels=16, standardize=standardize).train()
        with torch.no_grad():
            pairs = zip(pyramid([x] * 4), pyramid([moved] * 4), strict=True)
            equal = [torch.allclose(one, other, atol=1e-3) for one, other in pairs]
        assert all(equal) if standardize else not any(equal)


@pytest.mark.parametrize('patch', [8, 14, 16, 32])
def test_strides_hold_for_every_patch_size(patch):
    x = torch.randn(2, 16, SIDE // patch, SIDE // patch)
    levels = MultiLevelPyramid(16, patch)([x] * 4)
    assert [stride_of(level) for level in levels] == [4, 8, 16, 32]
    assert {level.shape[1] for level in levels} == {16}
    levels = SimpleFeaturePyramid(16, patch, out_channels=24)([x])
    assert [stride_of(level) for level in levels] == [4, 8, 16, 32, 64]
    assert {level.shape[1] for level in levels} == {24}


def test_every_level_is_contiguous():
    # mmcv's RoIAlign takes the memory for (B, C, H, W) in that order, whatever the strides say.
    for levels in (
        SimpleFeaturePyramid(16, 8)([torch.randn(2, 16, 8, 8)]),
        MultiLevelPyramid(16, 8)([torch.randn(2, 16, 8, 8)] * 4),
        SimpleFeaturePyramid(16, 8)([torch.randn(2, 8, 8, 16).permute(0, 3, 1, 2)]),
        MultiLevelPyramid(16, 8)([torch.randn(2, 8, 8, 16).permute(0, 3, 1, 2)] * 4),
    ):
        assert all(level.is_contiguous() for level in levels)


def kinds(sequence):
    return [type(layer).__name__ for layer in sequence]


def test_layers_at_16_px_are_the_published_ones():
    four, two, one, half = MultiLevelPyramid(16, 16).levels
    assert kinds(four) == ['ConvTranspose2d', 'SyncBatchNorm', 'GELU', 'ConvTranspose2d']
    assert kinds(two) == ['ConvTranspose2d']
    assert kinds(one) == []
    assert kinds(half) == ['MaxPool2d']
    block = ['Conv2d', 'LayerNorm2d', 'Conv2d', 'LayerNorm2d']
    pyramid = SimpleFeaturePyramid(192, 16)
    upscale = ['ConvTranspose2d', 'LayerNorm2d', 'GELU', 'ConvTranspose2d']
    assert kinds(pyramid.levels[0])[:4] == upscale
    assert all(kinds(level)[-4:] == block for level in pyramid.levels)
    assert pyramid.levels[0][3].out_channels == 48
    convolutions = [m for m in pyramid.modules() if isinstance(m, nn.Conv2d)]
    assert all(convolution.bias is None for convolution in convolutions)
    assert {m.eps for m in pyramid.modules() if isinstance(m, nn.LayerNorm)} == {1e-6}


def test_the_norm_and_the_width_can_be_chosen():
    norm_cfg = dict(type='LayerNorm2d', eps=1e-3)
    pyramid = MultiLevelPyramid(16, 16, out_channels=40, norm_cfg=norm_cfg)
    assert pyramid.levels[0][1].eps == 1e-3
    assert [y.shape[1] for y in pyramid([torch.randn(1, 16, 4, 4)] * 4)] == [40] * 4


def test_layer_norm_runs_over_the_channels():
    norm = LayerNorm2d(5).double()
    nn.init.normal_(norm.weight)
    nn.init.normal_(norm.bias)
    x = torch.randn(2, 5, 3, 4, dtype=torch.float64)
    centred = x - x.mean(1, keepdim=True)
    expected = centred / (centred.square().mean(1, keepdim=True) + 1e-6).sqrt()
    expected = expected * norm.weight[:, None, None] + norm.bias[:, None, None]
    torch.testing.assert_close(norm(x), expected)


@pytest.mark.parametrize(
    ('build', 'message'),
    [
        (lambda: SimpleFeaturePyramid(16, (16, 16)), 'patch_size must be a whole number'),
        (lambda: SimpleFeaturePyramid(0, 16), 'in_channels must be a whole number'),
        (lambda: SimpleFeaturePyramid(16, 16, strides=(8, 4)), 'strides must be increasing'),
        (lambda: SimpleFeaturePyramid(16, 16, strides=(16, 32, 128)), 'double the one before'),
        (lambda: SimpleFeaturePyramid(16, 16, strides=(64,)), 'double the one before'),
        (lambda: MultiLevelPyramid(16, 16, norm_cfg=dict(type='GN')), "'GN' is unknown: one of BN"),
        (lambda: MultiLevelPyramid(16, 16)([torch.zeros(1, 16, 4, 4)]), 'but got 1 maps'),
    ],
)
def test_wrong_arguments_are_one_line(build, message):
    with pytest.raises(ValueError, match=message) as error:
        build()
    assert '\n' not in str(error.value)


def fake(**parts):
    model = nn.Module()
    for name, part in parts.items():
        setattr(model, name, part)
    return model


def detector(anchors=(4, 8, 16, 32, 64), roi=(4, 8, 16, 32), patch=16, width=16):
    return fake(
        backbone=SimpleNamespace(patch_size=patch, embed_dim=width),
        neck=SimpleFeaturePyramid(16, 16, out_channels=8),
        rpn_head=SimpleNamespace(
            prior_generator=SimpleNamespace(strides=[(stride, stride) for stride in anchors])
        ),
        roi_head=SimpleNamespace(
            bbox_roi_extractor=SimpleNamespace(featmap_strides=[4, 8, 16, 32]),
            mask_roi_extractor=SimpleNamespace(featmap_strides=list(roi)),
        ),
    )


@pytest.mark.parametrize(
    ('changes', 'named'),
    [
        (dict(roi=(8, 16, 32, 64)), ('mask_roi_extractor', '(8, 16, 32, 64)', '(4, 8, 16, 32)')),
        (dict(anchors=(2, 4, 8, 16, 32)), ('anchor generator', '(2, 2)', '(4, 4)')),
        (dict(patch=8), ('patch_size', '16', '8')),
        (dict(width=32), ('width', '16', '32')),
    ],
)
def test_a_detector_that_disagrees_is_refused(changes, named):
    check_strides(detector())
    with pytest.raises(ValueError) as error:
        check_strides(fake(module=detector(**changes)))
    message = str(error.value)
    assert '\n' not in message and all(part in message for part in named)


def test_a_cascade_is_checked_in_every_stage():
    model = detector()
    right, wrong = (nn.Module() for _ in range(2))
    right.featmap_strides, wrong.featmap_strides = [4, 8, 16, 32], [8, 16, 32, 64]
    model.roi_head.bbox_roi_extractor = nn.ModuleList([right, wrong])
    with pytest.raises(ValueError, match='bbox_roi_extractor'):
        check_strides(model)


def segmentor(strides=(4, 8, 16, 32), maps=4):
    return fake(
        backbone=SimpleNamespace(patch_size=16, embed_dim=16, out_indices=tuple(range(maps))),
        neck=MultiLevelPyramid(16, 16, strides=strides),
        decode_head=SimpleNamespace(),
    )


def test_a_segmentor_that_disagrees_is_refused():
    check_strides(segmentor())
    with pytest.raises(ValueError, match=r'\(2, 4, 8, 16\).*\(4, 8, 16, 32\)'):
        check_strides(segmentor(strides=(2, 4, 8, 16)))
    with pytest.raises(ValueError, match='maps of the neck are 4, but the backbone has 3'):
        check_strides(segmentor(maps=3))


def test_other_models_are_left_alone():
    check_strides(nn.Linear(2, 2))
    check_strides(fake(neck=nn.Identity(), backbone=nn.Identity(), decode_head=nn.Identity()))
