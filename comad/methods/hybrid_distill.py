"""Hybrid Distill: features of a contrastive teacher, token relations of MAE (arXiv:2306.15876).

The story of a training step, in the order of :meth:`HybridDistill.loss`:

1. Student. It gets the whole image; after chosen blocks patches whose tokens resemble the others
   most leave it, some of them drawn at random. Queries, keys and values of chosen blocks are kept.
2. Features. The final tokens of the discriminative teacher (contrastive or supervised), normalised,
   are the target of a linear projection of the student's: discrimination.
3. Relations. MAE's query-key and value-value relations at intermediate blocks are the target of the
   student's, over the patches that it still has there: diversity, against attention that is the
   same for every query.

The abstract states two frozen teachers with these parts and a progressive redundant token masking
in words; a secondary source gives both weights as 1. The official repository held no code. Losses
in detail, blocks, the score of redundancy, how many patches go and when, the projection and the
recipe are constructor arguments or written here, and are our choice.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from mmengine.registry import MODELS
from torch import Tensor, nn

from backbones.contract import BlockNetwork
from comad.methods.base import PretrainMethod, full_precision
from comad.methods.parts.attention import AttentionSummary, attention_statistics
from comad.methods.parts.block_pairs import Pairs, check_pairs
from comad.methods.parts.losses import normalize
from comad.methods.parts.positions import choose_positions
from comad.methods.parts.redundancy import Drops, draw_survivors, dropped_counts, redundancy
from comad.methods.parts.relations import (
    QKV,
    check_relation_heads,
    relation_kl,
    select_tokens,
)
from comad.methods.parts.teacher_set import TeacherSet

ROLES = ('features', 'relations')


class StudentPass(NamedTuple):
    """What the student makes of a batch.

    Attributes:
        tokens: (B, 1 + n, d) after the final norm, class token first.
        keep: (B, n) the patches these are, ascending.
        relations: block (from 1) -> the patches (B, n_b) that it got, and its q, k, v, each
            (B, heads, 1 + n_b, c).
    """

    tokens: Tensor
    keep: Tensor
    relations: dict[int, tuple[Tensor, QKV]]


@MODELS.register_module()
class HybridDistill(PretrainMethod):
    """Features of one frozen teacher and token relations of another.

    Args:
        backbone: config of the student, a MaskedViT; its heads stay as they are.
        teachers: two dicts, each with arguments of ``build_teacher`` and ``role``: 'features' for
            the discriminative one, of any family, and 'relations' for MAE, a plain ViT. Both see
            the whole image.
        alpha: weight of the features (1 in a secondary source).
        beta: weight of the relations (1 in a secondary source).
        smooth_l1_beta: where the feature loss turns from quadratic to linear, our choice.
        feature_cls: whether the class token's features are distilled like a patch's, our choice:
            nothing else would train what a linear probe reads.
        relation_blocks: pairs (student, teacher) of blocks from 2, our choice; by default those in
            the middle and at three quarters of either depth.
        relation_heads: A, into how many heads q, k and v of both are cut; a divisor of both widths.
            Our choice; by default the teacher's own number, so that its query-key relation is its
            attention.
        drops: (block, share): after this block (from 1) the share of the patches still there goes.
            Our choice; by default a quarter after a third and after two thirds of the blocks.
        pool_ratio: those that go are drawn among so many times as many most redundant patches; our
            reading of "redundant" and "random", 1 leaves no chance in it.
        positions: 'sincos' (fixed, w first) or 'learned' positions of the student, our choice.
        diagnostics_every: steps between two looks at the student's attention.
        diagnostics_images: images of the batch that are looked at.
        data_preprocessor: config of the preprocessor.

    Raises:
        ValueError: on an unknown option, roles that are not one of each, blocks that do not exist,
            or relation heads that do not divide a width.
    """

    method_version = '1'
    vit_only = True

    def __init__(
        self,
        backbone: dict[str, Any],
        teachers: Sequence[Mapping[str, Any]],
        alpha: float = 1.0,
        beta: float = 1.0,
        smooth_l1_beta: float = 2.0,
        feature_cls: bool = True,
        relation_blocks: Pairs | None = None,
        relation_heads: int | None = None,
        drops: Drops | None = None,
        pool_ratio: float = 2.0,
        positions: str = 'sincos',
        diagnostics_every: int = 50,
        diagnostics_images: int = 8,
        data_preprocessor: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(backbone, data_preprocessor)
        _check_numbers(smooth_l1_beta, pool_ratio, diagnostics_every, diagnostics_images)
        teachers = _in_order(teachers)
        self.alpha, self.beta, self.smooth_l1_beta = alpha, beta, smooth_l1_beta
        self.first_feature = 0 if feature_cls else 1
        self.pool_ratio = pool_ratio
        self.diagnostics_every, self.diagnostics_images = diagnostics_every, diagnostics_images
        self.steps = 0

        student = self.backbone
        self.teacher_networks = TeacherSet(teachers, student.grid_size, reads=['role'])
        self.teacher_names = self.teacher_networks.names
        self.teacher_cards = self.teacher_networks.cards
        if not isinstance(self.relation_teacher, BlockNetwork):
            raise ValueError(
                f'teacher {self.teacher_names[1]} cannot have role=relations: expected a plain '
                'ViT, family mae, mocov3, ibot, dino or dinov2'
            )
        depths = student.depth, self.teacher_networks.depths[1]
        pairs = relation_blocks if relation_blocks is not None else middle_pairs(*depths)
        self.relation_blocks = check_pairs('relation_blocks', pairs, depths, first=(2, 2))
        self.relation_heads = relation_heads or self.relation_teacher.num_heads
        for network in (student, self.relation_teacher):
            check_relation_heads(self.relation_heads, network.embed_dim)
        drops = default_drops(student.depth) if drops is None else drops
        self.drops = dropped_counts(student.num_patches, student.depth, drops)

        self.projection = nn.Linear(student.embed_dim, self.feature_teacher.embed_dim)
        choose_positions(student, positions)

    # Properties, since attributes would register the teachers a second time.
    @property
    def feature_teacher(self) -> nn.Module:
        """The discriminative teacher."""
        return self.teacher_networks[0]

    @property
    def relation_teacher(self) -> nn.Module:
        """The teacher whose relations are learned, MAE's."""
        return self.teacher_networks[1]

    def loss(self, inputs: Tensor) -> dict[str, Tensor]:
        """One step on (B, 3, H, W) images, see the module's docstring."""
        seen = self.run_student(inputs)  # 1.
        losses = {
            'loss_feature': self.alpha * self.feature_loss(inputs, seen),  # 2.
            'loss_relation': self.beta * self.relation_loss(inputs, seen),  # 3.
        }
        self.steps += 1
        if self.steps % self.diagnostics_every == 0:
            losses |= self.attention_figures(inputs[: self.diagnostics_images])
        return losses

    def run_student(self, images: Tensor) -> StudentPass:
        """The student's pass over (B, 3, H, W) images, during which patches leave it."""
        student, relations = self.backbone, {}
        wanted = {block for block, _ in self.relation_blocks}
        keep = torch.arange(student.num_patches, device=images.device).expand(len(images), -1)
        x = student.embed(images)
        for block in range(1, student.depth + 1):
            if block in wanted:
                relations[block] = keep, student.qkv(x, block - 1)
            x = student.run(x, block - 1, block)
            if block in self.drops:
                score = redundancy(x[:, 1:].detach())
                left = draw_survivors(score, self.drops[block], self.pool_ratio)
                x, keep = select_tokens(x, left), keep.gather(1, left)
        return StudentPass(student.norm(x), keep, relations)

    def feature_loss(self, images: Tensor, seen: StudentPass) -> Tensor:
        """Smooth L1 between projected student tokens and the teacher's after a plain LayerNorm."""
        target = select_tokens(self.feature_teacher.tokens(images), seen.keep)
        predicted = self.projection(seen.tokens)
        with full_precision(images):
            first, target = self.first_feature, normalize(target)
            pair = predicted[:, first:].float(), target[:, first:]
            return F.smooth_l1_loss(*pair, beta=self.smooth_l1_beta)

    def relation_loss(self, images: Tensor, seen: StudentPass) -> Tensor:
        """Mean over the pairs of blocks of :func:`relations.relation_kl`."""
        targets = self.relation_targets(images)
        with full_precision(images):
            terms = []
            for student_block, teacher_block in self.relation_blocks:
                keep, qkv = seen.relations[student_block]
                target = tuple(select_tokens(x, keep) for x in targets[teacher_block])
                terms.append(relation_kl(target, qkv, self.relation_heads))
            return torch.stack(terms).mean()

    @torch.no_grad()
    def relation_targets(self, images: Tensor) -> dict[int, QKV]:
        """Block (from 1) of the relation teacher -> its q, k and v on whole images."""
        teacher = self.relation_teacher
        blocks = sorted({block for _, block in self.relation_blocks})
        # What enters a block has left the one before: hence blocks from 2.
        inputs = teacher.tokens(images, layers=[block - 2 for block in blocks])
        dtype = next(teacher.parameters()).dtype
        pairs = zip(blocks, inputs, strict=True)
        return {block: teacher.qkv(x.to(dtype), block - 1) for block, x in pairs}

    def attention_figures(self, images: Tensor) -> dict[str, Tensor]:
        """Attention distance per head and NMI of the last relation block and of the last one."""
        found = attention_statistics(self.backbone, images)
        out = {}
        for block in sorted({self.relation_blocks[-1][0], self.backbone.depth}):
            for head, distance in enumerate(found.distance[block - 1]):
                out[f'attention_distance_b{block}_h{head + 1}'] = distance
            out[f'attention_nmi_b{block}'] = found.nmi[block - 1].mean()
        return out

    @torch.no_grad()
    def explain(self, images: Tensor) -> AttentionSummary:
        """Attention of student and teachers on whole images (B, 3, H, W), for a picture.

        Teachers that see resized images, and timm's, are left out.
        """
        networks = {'student': self.backbone}
        teachers = self.feature_teacher, self.relation_teacher
        for role, name, teacher in zip(ROLES, self.teacher_names, teachers, strict=True):
            if isinstance(teacher, BlockNetwork) and teacher.input_size is None:
                networks[f'{name} ({role})'] = teacher
        return AttentionSummary({n: attention_statistics(v, images) for n, v in networks.items()})


def middle_pairs(student_depth: int, teacher_depth: int) -> Pairs:
    """The blocks in the middle and at three quarters of either depth: 6 and 9 of 12."""
    return sorted(
        {
            tuple(max(2, math.ceil(share * depth)) for depth in (student_depth, teacher_depth))
            for share in (1 / 2, 3 / 4)
        }
    )


def default_drops(depth: int) -> Drops:
    """A quarter after a third and after two thirds of the blocks: after 4 and 8 of 12."""
    blocks = sorted({math.ceil(depth / 3), math.ceil(2 * depth / 3)})
    return [(block, 0.25) for block in blocks if block < depth]


def _in_order(teachers: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """The teachers in the order of ROLES."""
    roles = [teacher.get('role') for teacher in teachers]
    if sorted(map(str, roles)) != sorted(ROLES):
        raise ValueError(
            f'roles of the teachers are {roles}: expected one teacher each with role='
            f'{" and role=".join(ROLES)}'
        )
    return sorted(teachers, key=lambda teacher: ROLES.index(teacher['role']))


def _check_numbers(smooth_l1_beta: float, pool_ratio: float, every: int, images: int) -> None:
    for name, value, low in (
        ('smooth_l1_beta', smooth_l1_beta, 0),
        ('pool_ratio', pool_ratio, 1),
        ('diagnostics_every', every, 1),
        ('diagnostics_images', images, 1),
    ):
        if not value >= low:
            raise ValueError(f'{name}={value}: expected at least {low}')
