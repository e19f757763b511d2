"""Inputs of mmcv's operators, and what compiled mmcv 2.1.0 makes of them on an x86-64 CPU.

    python -m tests.backbones.operator_cases     # with a compiled mmcv: records the figures anew

Inputs come from numpy's RandomState, whose numbers are the same in every release.
"""

import sys
from itertools import product
from pathlib import Path
from types import ModuleType
from typing import NamedTuple
from zlib import crc32

import numpy as np
import torch
from torch import Tensor

FIGURES = Path(__file__).with_name('compiled_mmcv.npz')
CHANNELS, HEIGHT, WIDTH, SCALE = 2, 8, 10, 0.25


class NmsCase(NamedTuple):
    kind: str
    boxes: int
    threshold: float
    offset: int

    def inputs(self) -> tuple[Tensor, Tensor]:
        """Boxes (N, 4) and scores (N,); those of one kind and number are the same."""
        draw = np.random.RandomState(crc32(f'{self.kind} {self.boxes}'.encode()))
        corners = 100 * draw.rand(self.boxes, 2)
        sides = 5 + 40 * draw.rand(self.boxes, 2)
        scores = draw.permutation(self.boxes) / max(1, self.boxes)
        if self.kind == 'whole':  # ratios of small numbers meet thresholds exactly
            corners, sides = draw.randint(0, 12, corners.shape), draw.randint(1, 8, sides.shape)
        elif self.kind == 'tied':
            scores = draw.randint(0, 5, self.boxes) / 5
        elif self.kind == 'copies':
            corners[:] = corners[:1]
            sides[:] = sides[:1]
        elif self.kind == 'negative':
            sides -= 25
        elif self.kind == 'empty':
            sides[::2] = 0
        boxes = np.concatenate([corners, corners + sides], axis=1)
        return torch.tensor(boxes, dtype=torch.float32), torch.tensor(scores, dtype=torch.float32)

    def run(self, operators: ModuleType) -> Tensor:
        boxes, scores = self.inputs()
        return operators.nms(boxes, scores, iou_threshold=self.threshold, offset=self.offset)


class RoICase(NamedTuple):
    kind: str
    rois: int
    size: int
    sampling_ratio: int
    aligned: bool
    dtype: torch.dtype = torch.float32

    def inputs(self) -> tuple[Tensor, Tensor, Tensor]:
        """Maps (2, C, h, w), RoIs (K, 5) and the gradient of the output (K, C, size, size)."""
        draw = np.random.RandomState(crc32(f'{self.kind} {self.rois} {self.size}'.encode()))
        image = np.array([WIDTH, HEIGHT]) / SCALE
        corners = image * draw.rand(self.rois, 2) * 0.7
        sides = {'usual': 0.3 * image, 'outside': image, 'tiny': 0.3, 'no area': 0.0}[self.kind]
        if self.kind == 'outside':
            corners -= 0.4 * image
        corners2 = corners + sides * draw.rand(self.rois, 2)
        rois = np.concatenate([draw.randint(0, 2, (self.rois, 1)), corners, corners2], axis=1)
        maps = 2 * draw.rand(2, CHANNELS, HEIGHT, WIDTH) - 1
        grad = 2 * draw.rand(self.rois, CHANNELS, self.size, self.size) - 1
        return tuple(torch.tensor(values, dtype=self.dtype) for values in (maps, rois, grad))

    def options(self) -> dict[str, float]:
        return dict(
            aligned_height=self.size,
            aligned_width=self.size,
            spatial_scale=SCALE,
            sampling_ratio=self.sampling_ratio,
            pool_mode=1,
            aligned=self.aligned,
        )

    def run(
        self, operators: ModuleType, memory: torch.memory_format = torch.contiguous_format
    ) -> tuple[Tensor, Tensor]:
        """Output and gradient of the maps, called as mmcv's RoIAlignFunction does."""
        maps, rois, grad = self.inputs()
        maps = maps.contiguous(memory_format=memory)
        none = maps.new_zeros(0)
        output, grad_input = torch.zeros_like(grad), maps.new_zeros(maps.shape)
        operators.roi_align_forward(maps, rois, output, none, none, **self.options())
        operators.roi_align_backward(grad, rois, none, none, grad_input, **self.options())
        return output, grad_input


THRESHOLDS = (0.0, 0.3, 0.5, 0.7, 1.0)
KINDS = ('usual', 'whole', 'tied', 'copies', 'negative', 'empty')
NMS_CASES = [
    *(NmsCase(*case) for case in product(KINDS, (0, 1, 60), THRESHOLDS, (0, 1))),
    *(NmsCase(*case) for case in product(('usual', 'whole', 'tied'), (2000,), (0.3, 0.7), (0, 1))),
]
ROI_CASES = [
    *(
        RoICase(kind, 5, 7, ratio, aligned)
        for kind, ratio, aligned in product(
            ('usual', 'outside', 'tiny', 'no area'), (0, 1, 2), (True, False)
        )
    ),
    *(RoICase('usual', 0, 7, 0, aligned) for aligned in (True, False)),
    *(RoICase('usual', 3, 14, ratio, True) for ratio in (0, 4)),
    *(RoICase('outside', 5, 7, 0, aligned, torch.float64) for aligned in (True, False)),
]


def score_order(case: NmsCase) -> Tensor:
    """How this torch sorts the scores; of equal ones another torch may take another first."""
    return case.inputs()[1].sort(0, descending=True)[1]


def record() -> None:
    """Write `FIGURES`.

    Raises:
        SystemExit: the mmcv here is not compiled.
    """
    from mmcv import _ext

    if not _ext.__file__.endswith('.so'):
        sys.exit(f'{_ext.__file__} is not compiled: the figures are those of a compiled mmcv')
    arrays = {}
    for number, case in enumerate(NMS_CASES):
        arrays[f'kept {number}'] = case.run(_ext).numpy().astype(np.int16)
        if case.kind == 'tied':
            arrays[f'order {number}'] = score_order(case).numpy().astype(np.int16)
    for number, case in enumerate(ROI_CASES):
        output, gradient = case.run(_ext)
        arrays |= {f'output {number}': output.numpy(), f'gradient {number}': gradient.numpy()}
    np.savez_compressed(FIGURES, **arrays)
    print(f'{FIGURES}: {FIGURES.stat().st_size} bytes')


if __name__ == '__main__':
    record()
