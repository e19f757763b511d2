"""The operators of `mmcv._ext` that plain detectors and segmentors call, on torchvision's kernels.

Signatures are those by which mmcv 2.x calls its compiled module; results are equal to its, bit by
bit in float32 and float64 on x86-64 CPUs. Beyond it: any memory format, and half and bfloat16,
computed in float32. Every other operator exists, and raises when it is called.

Stands alone: it is loaded as `mmcv._ext`, also from a distribution of its own (``ops/``).
"""

import struct
from collections.abc import Callable
from typing import Any, NoReturn

import torch
import torchvision
from torch import Tensor

COMPILED = (
    'install a compiled mmcv in place of mmcv-lite (in a checkout: tools/setup.sh --compiled)'
)


def nms(boxes: Tensor, scores: Tensor, iou_threshold: float, offset: int) -> Tensor:
    """Indices (K,) of the boxes that stay, highest score first.

    Args:
        boxes: (N, 4), x1 y1 x2 y2 in px.
        scores: (N,).
        iou_threshold: A box goes if its IoU with a better one is above.
        offset: 1 where x2 and y2 are the last pixel inside, else 0.
    """
    boxes = _at_least_float32(boxes)
    # mmcv's sort, which is not stable, decides between equal scores. torchvision's own sort is
    # stable and keeps the order that it finds.
    scores, order = scores.sort(0, descending=True)
    boxes = boxes[order]
    if offset:
        boxes = boxes + boxes.new_tensor([0, 0, offset, offset])
    # mmcv compares in float32, torchvision in float64: an IoU of exactly 0.3 is above neither.
    (threshold,) = struct.unpack('f', struct.pack('f', iou_threshold))
    return order[torch.ops.torchvision.nms(boxes, scores.to(boxes.dtype), threshold)]


def roi_align_forward(
    input: Tensor,
    rois: Tensor,
    output: Tensor,
    argmax_y: Tensor,
    argmax_x: Tensor,
    aligned_height: int,
    aligned_width: int,
    spatial_scale: float,
    sampling_ratio: int,
    pool_mode: int,
    aligned: bool,
) -> None:
    """Means of the RoIs' bins, written to ``output`` (K, C, aligned_height, aligned_width).

    Args:
        input: Maps (B, C, h, w).
        rois: (K, 5), index of the map and x1 y1 x2 y2 in px of the image.
        argmax_y, argmax_x: Of maximum pooling; unused.
        spatial_scale: Pixels of the map per pixel of the image.
        sampling_ratio: Samples per bin and axis; 0 takes as many as the bin has pixels.
        pool_mode: 1, the mean.
        aligned: Whether pixel centres lie at .5.

    Raises:
        NotImplementedError: ``pool_mode`` is 0, the maximum.
    """
    _check_mean(pool_mode)
    maps = _at_least_float32(input)
    size = (aligned_height, aligned_width)
    output.copy_(
        torch.ops.torchvision.roi_align(
            maps, rois.to(maps.dtype), spatial_scale, *size, sampling_ratio, aligned
        )
    )


def roi_align_backward(
    grad_output: Tensor,
    rois: Tensor,
    argmax_y: Tensor,
    argmax_x: Tensor,
    grad_input: Tensor,
    aligned_height: int,
    aligned_width: int,
    spatial_scale: float,
    sampling_ratio: int,
    pool_mode: int,
    aligned: bool,
) -> None:
    """Gradient with respect to the maps, written to ``grad_input`` (B, C, h, w).

    Other arguments and errors: see `roi_align_forward`.
    """
    _check_mean(pool_mode)
    grad = _at_least_float32(grad_output)
    rois = rois.to(grad.dtype)
    size = (aligned_height, aligned_width)
    if grad.is_cuda and torch.are_deterministic_algorithms_enabled():
        found = _differentiated(
            grad, rois, grad_input, spatial_scale, size, sampling_ratio, aligned
        )
    else:
        found = torch.ops.torchvision._roi_align_backward(
            grad, rois, spatial_scale, *size, *grad_input.shape, sampling_ratio, aligned
        )
    grad_input.copy_(found)


def get_compiler_version() -> str:
    """For `mmcv.utils.collect_env`."""
    return f'none, operators of torchvision {torchvision.__version__}'


def get_compiling_cuda_version() -> str:
    """Of torch's build, for `mmcv.utils.collect_env`."""
    return str(torch.version.cuda or 'not available')


def __getattr__(name: str) -> Callable[..., NoReturn]:
    # mmcv asks for all its operators when it is imported, and forks of it for more.
    if name.startswith('__'):
        raise AttributeError(f'module {__name__!r} has no attribute {name!r}')

    def stub(*args: Any, **options: Any) -> NoReturn:
        raise NotImplementedError(
            f"mmcv's operator {name!r} has no kernel in torchvision here: {COMPILED}"
        )

    return stub


def _at_least_float32(x: Tensor) -> Tensor:
    return x.to(torch.promote_types(x.dtype, torch.float32))


def _check_mean(pool_mode: int) -> None:
    if pool_mode != 1:
        raise NotImplementedError(
            f"RoIAlign with pool_mode='max' is not in torchvision, only 'avg' is: {COMPILED}"
        )


def _differentiated(
    grad: Tensor,
    rois: Tensor,
    like: Tensor,
    spatial_scale: float,
    size: tuple[int, int],
    sampling_ratio: int,
    aligned: bool,
) -> Tensor:
    """The same gradient in the form that is deterministic on CUDA, where the kernel's raises."""
    with torch.enable_grad():
        # RoIAlign is linear in the maps, so their values do not matter.
        maps = torch.zeros(like.shape, dtype=grad.dtype, device=grad.device, requires_grad=True)
        pooled = torchvision.ops.roi_align(maps, rois, size, spatial_scale, sampling_ratio, aligned)
        return torch.autograd.grad(pooled, maps, grad)[0]
