"""mmcv's operators on torchvision: compiled mmcv's figures, other types, stubs."""

import platform
from importlib.machinery import ExtensionFileLoader

import numpy as np
import pytest
import torch

from backbones import mmcv_ext
from tests.backbones.operator_cases import (
    FIGURES,
    NMS_CASES,
    ROI_CASES,
    SCALE,
    NmsCase,
    RoICase,
    score_order,
)


@pytest.fixture(scope='module')
def figures():
    with np.load(FIGURES) as stored:
        return {name: torch.from_numpy(stored[name]) for name in stored}


def assert_same(found, expected):
    """Bit by bit where the figures were made, to some roundings where products may be fused."""
    exact = platform.machine() in ('x86_64', 'AMD64')
    torch.testing.assert_close(found, expected, **(dict(rtol=0, atol=0) if exact else {}))


def greedy(case):
    """NMS by its definition, in float32 throughout, in this torch's order of the scores."""
    boxes, _ = case.inputs()
    sides = boxes[:, 2:] - boxes[:, :2] + case.offset
    areas = sides[:, 0] * sides[:, 1]
    threshold = torch.tensor(case.threshold, dtype=torch.float32)
    waiting, kept = score_order(case), []
    while len(waiting):
        best, waiting = waiting[0], waiting[1:]
        kept.append(int(best))
        shared = torch.minimum(boxes[best, 2:], boxes[waiting, 2:]) + case.offset
        shared = (shared - torch.maximum(boxes[best, :2], boxes[waiting, :2])).clamp(min=0)
        shared = shared[:, 0] * shared[:, 1]
        overlap = shared / (areas[best] + areas[waiting] - shared)
        waiting = waiting[~(overlap > threshold)]
    return kept


@pytest.mark.parametrize('number', range(len(NMS_CASES)), ids=[str(case) for case in NMS_CASES])
def test_nms_keeps_what_compiled_mmcv_keeps(figures, number):
    case = NMS_CASES[number]
    if case.kind == 'tied' and not torch.equal(
        score_order(case), figures[f'order {number}'].long()
    ):
        pytest.skip('this torch sorts equal scores otherwise than the one of the figures')
    assert case.run(mmcv_ext).tolist() == figures[f'kept {number}'].tolist()


@pytest.mark.parametrize('case', [c for c in NMS_CASES if c.kind in ('whole', 'tied')], ids=str)
def test_nms_follows_its_definition(case):
    assert case.run(mmcv_ext).tolist() == greedy(case)


@pytest.mark.parametrize('memory', [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize('number', range(len(ROI_CASES)), ids=[str(case) for case in ROI_CASES])
def test_roi_align_is_compiled_mmcvs(figures, number, memory):
    output, gradient = ROI_CASES[number].run(mmcv_ext, memory)
    assert_same(output, figures[f'output {number}'])
    assert_same(gradient, figures[f'gradient {number}'])


def test_the_compiled_mmcv_here_agrees():
    _ext = pytest.importorskip('mmcv._ext', reason='no mmcv is installed')
    if not isinstance(_ext.__loader__, ExtensionFileLoader):
        pytest.skip('no compiled mmcv is installed')
    for case in NMS_CASES:
        assert torch.equal(case.run(mmcv_ext), case.run(_ext)), case
    for case in ROI_CASES:
        for ours, theirs in zip(case.run(mmcv_ext), case.run(_ext), strict=True):
            assert_same(ours, theirs)


def roi_align(case, maps, rois, grad):
    none = maps.new_zeros(0)
    output, gradient = torch.zeros_like(grad), torch.zeros_like(maps)
    mmcv_ext.roi_align_forward(maps, rois, output, none, none, **case.options())
    mmcv_ext.roi_align_backward(grad, rois, none, none, gradient, **case.options())
    return output, gradient


@pytest.mark.parametrize(('dtype', 'bits'), [(torch.bfloat16, 8), (torch.float16, 11)])
@pytest.mark.parametrize('aligned', [True, False])
def test_short_types_are_computed_in_float32(dtype, bits, aligned):
    case = RoICase('usual', 10, 7, 2, aligned)
    maps, rois, grad = (
        x.to(kind) for x, kind in zip(case.inputs(), (dtype, torch.float32, dtype), strict=True)
    )
    expected = roi_align(case, maps.double(), rois.double(), grad.double())
    # One rounding of the result. Coordinates below 16 px are right to 4 roundings of float32, 4e-6
    # px; maps change by 2 per px and axis, weights by 1, and a pixel's gradient sums those of at
    # most all bins.
    for found, right, bins in zip(
        roi_align(case, maps, rois, grad), expected, (1, 10 * 7 * 7), strict=True
    ):
        assert found.dtype == dtype
        assert ((found - right).abs() <= 2.0**-bits * right.abs() + 1.6e-5 * bins).all()


def test_boxes_of_short_types_are_compared_in_float32():
    # Exact in bfloat16, unlike their areas and their IoU of 0.6 + 2e-3.
    boxes = torch.tensor([[0, 0, 251.0, 100], [0, 0, 151, 100]])
    scores = torch.tensor([0.5, 0.25])
    for dtype in (torch.bfloat16, torch.float16):
        assert torch.equal(boxes.to(dtype).float(), boxes)
        for threshold in (0.601, 0.602):
            kept = mmcv_ext.nms(boxes.to(dtype), scores.to(dtype), threshold, 0)
            assert kept.tolist() == ([0] if threshold < 151 / 251 else [0, 1])
        # Scores of a shorter type than the boxes', as under autocast.
        assert mmcv_ext.nms(boxes, scores.to(dtype), 0.5, 0).tolist() == [0]


def test_boxes_in_float64():
    boxes, scores = NmsCase('usual', 60, 0.5, 0).inputs()
    wide = mmcv_ext.nms(boxes.double(), scores.double(), 0.5, 0)
    assert torch.equal(wide, mmcv_ext.nms(boxes, scores, 0.5, 0))


def test_the_deterministic_gradient_is_the_kernels():
    case = RoICase('usual', 20, 7, 0, True, torch.float64)
    maps, rois, grad = case.inputs()
    found = mmcv_ext._differentiated(grad, rois, maps, SCALE, (7, 7), 0, True)
    assert torch.equal(found, case.run(mmcv_ext)[1])


def test_what_torchvision_lacks_says_so_in_one_line():
    with pytest.raises(NotImplementedError, match="'softnms'.*--compiled") as error:
        mmcv_ext.softnms(torch.rand(3, 4))
    assert '\n' not in str(error.value)
    with pytest.raises(NotImplementedError, match='max.*--compiled') as error:
        options = {**RoICase('usual', 3, 7, 0, True).options(), 'pool_mode': 0}
        maps, rois, grad = RoICase('usual', 3, 7, 0, True).inputs()
        mmcv_ext.roi_align_forward(maps, rois, grad, grad, grad, **options)
    assert '\n' not in str(error.value)
    assert not hasattr(mmcv_ext, '__wrapped__')
