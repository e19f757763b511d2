"""Which patches the student and each teacher see."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

RELATIONS = ('chain', 'student_subset')


class Masks(NamedTuple):
    """Patches that are kept, as indices; the relation between them is that of ``draw_masks``.

    Attributes:
        student: (B, n_S) long.
        teachers: one (B, n_k) long per teacher. Its first n_S columns equal ``student``, which
            makes "the teacher's tokens at the student's positions" a slice.
    """

    student: Tensor
    teachers: tuple[Tensor, ...]


def visible_count(num_patches: int, mask_ratio: float) -> int:
    """Patches left of ``num_patches`` when the share ``mask_ratio`` is masked.

    Raises:
        ValueError: if the ratio is outside [0, 1) or leaves nothing.
    """
    count = round((1 - mask_ratio) * num_patches)
    if not 0 <= mask_ratio < 1 or count < 1:
        raise ValueError(f'mask_ratio={mask_ratio}: expected 0 <= ratio < 1 that leaves a patch')
    return count


def check_ratios(num_patches: int, student_ratio: float, teacher_ratios: Sequence[float]) -> None:
    """Stop if a teacher would see fewer patches than the student.

    Raises:
        ValueError: names the teacher's ratio and the bound.
    """
    student = visible_count(num_patches, student_ratio)
    for ratio in teacher_ratios:
        if visible_count(num_patches, ratio) < student:
            raise ValueError(
                f'teacher mask_ratio={ratio} leaves fewer patches than the student sees; '
                f'expected at most the student mask_ratio={student_ratio}'
            )


def draw_masks(
    relation: str,
    batch: int,
    num_patches: int,
    student_ratio: float,
    teacher_ratios: Sequence[float],
    device: torch.device | str = 'cpu',
) -> Masks:
    """Draw the student's and the teachers' visible patches for a batch, with constant counts.

    The abstract of arXiv:2508.04816 says: the student sees 25 %, the teachers' masks are
    progressively lighter and unique. How they relate is our choice:

    - ``chain``: one noise vector per image, so the sets are nested, the heavier inside the
      lighter; a hidden patch is then often seen by several teachers and consensus has meaning;
    - ``student_subset`` (ablation): every teacher sees the student's patches and extras that are
      drawn independently of the other teachers.

    Args:
        relation: 'chain' or 'student_subset'.
        batch: B.
        num_patches: N.
        student_ratio: share of patches hidden from the student.
        teacher_ratios: share hidden from each teacher, in any order.
        device: where to draw.

    Raises:
        ValueError: if the relation is unknown.
    """
    student_count = visible_count(num_patches, student_ratio)
    counts = [visible_count(num_patches, ratio) for ratio in teacher_ratios]
    order = torch.rand(batch, num_patches, device=device).argsort(dim=1)
    student = order[:, :student_count]
    if relation == 'chain':
        return Masks(student, tuple(order[:, :count] for count in counts))
    if relation == 'student_subset':
        rest = order[:, student_count:]
        teachers = []
        for count in counts:
            shuffled = rest.gather(1, torch.rand(rest.shape, device=device).argsort(dim=1))
            teachers.append(torch.cat([student, shuffled[:, : count - student_count]], dim=1))
        return Masks(student, tuple(teachers))
    raise ValueError(f'masks={relation!r}: expected one of {", ".join(RELATIONS)}')


def visibility(keep: Tensor, num_patches: int) -> Tensor:
    """(B, n) kept indices -> (B, N) bool, True where a patch is seen."""
    seen = torch.zeros(len(keep), num_patches, dtype=torch.bool, device=keep.device)
    return seen.scatter_(1, keep, True)


def to_grid(tokens: Tensor, keep: Tensor, num_patches: int) -> Tensor:
    """Put kept tokens (B, n, D) back to raster order: (B, N, D), zero where nothing was kept."""
    grid = tokens.new_zeros(len(tokens), num_patches, tokens.shape[-1])
    return grid.scatter(1, keep.unsqueeze(-1).expand_as(tokens), tokens)
