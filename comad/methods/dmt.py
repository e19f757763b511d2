"""DMT: one student learns from several self-supervised teachers at once (arXiv:2312.11938).

The story of a training step, in the order of :meth:`DMT.loss`:

1. Teachers and student see the same whole image; nothing is masked.
2. Targets: the teachers' tokens after a LayerNorm without affine part, every channel standardised.
3. Predictions: a projector per target maps the student's tokens to its width.
4. Loss: smooth-L1 between predictions and targets, for the patches and for the class token.

Stated by the sources that could be read: several off-the-shelf self-supervised ViT-Base teachers,
contrastive and masked image modelling, are distilled at once into tiny, small and base students;
the image is unmasked. Everything else is our choice and a constructor argument: which tokens, how
several teachers become targets, projectors, the loss and its weights, and the recipe.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from mmengine.dist import broadcast, is_main_process
from mmengine.registry import MODELS
from torch import Tensor, nn

from comad.methods.base import PretrainMethod, full_precision, training_batches
from comad.methods.parts.alignment import ALIGNMENTS
from comad.methods.parts.block_pairs import Pairs, check_pairs
from comad.methods.parts.losses import normalize
from comad.methods.parts.positions import choose_positions
from comad.methods.parts.statistics import ChannelStandard, TokenMoments
from comad.methods.parts.teacher_set import TeacherSet, cell_of

HEADS = ('per_teacher', 'mean')
PROJECTORS = ('linear', 'mlp')


@MODELS.register_module()
class DMT(PretrainMethod):
    """Distillation with multiple self-supervised teachers.

    Shape letters: B images, K teachers, N patches, D_k teacher width, d student width.

    Args:
        backbone: config of the student, a MaskedViT or a network with ``tokens`` of its last map.
        teachers: one dict per teacher: arguments of ``build_teacher``.
        heads: 'per_teacher' (our choice): a target and a projector for each. 'mean': one target,
            LN of the mean over the teachers in the common space of CoMAD's alignment; a mean of
            spaces that nothing has aligned would be a straw man.
        projector: 'linear' (our choice) or 'mlp', two layers with GELU between; dropped at export.
        hidden_dim: hidden width of 'mlp'; the target's when None, our choice.
        layers: 'last' (our choice), the tokens after the final norms; or pairs of a student and a
            teacher block, counted from 1 and equal for all teachers: raw block outputs after a
            LayerNorm without affine part, the student's last block after its final norm. Its last
            block has to be among them, each of its blocks at most once.
        beta: where smooth-L1 turns from a square into a line; our choice is G2SD's.
        cls_weight: weight of the class token's term, our choice; 0 leaves it untrained.
        standardize: bring each channel of a teacher's target to mean 0 and deviation 1 over
            training tokens, our choice, see ``ChannelStandard``; for ``heads='per_teacher'`` only.
        align, whiten: as in CoMAD, for ``heads='mean'`` only.
        n_fit: training images on which that or the alignment is fitted, our choice.
        positions: 'sincos' (fixed, w first) or 'learned' positions of the student, our choice.
        data_preprocessor: config of the preprocessor.

    Raises:
        ValueError: on an unknown option, a block that does not exist, or teachers of another grid.
    """

    method_version = '1'

    def __init__(
        self,
        backbone: dict[str, Any],
        teachers: Sequence[Mapping[str, Any]],
        heads: str = 'per_teacher',
        projector: str = 'linear',
        hidden_dim: int | None = None,
        layers: str | Pairs = 'last',
        beta: float = 2.0,
        cls_weight: float = 1.0,
        standardize: bool = True,
        align: str = 'procrustes',
        whiten: bool = True,
        n_fit: int = 2048,
        positions: str = 'sincos',
        data_preprocessor: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(backbone, data_preprocessor)
        for name, value, known in (
            ('heads', heads, HEADS),
            ('projector', projector, PROJECTORS),
            ('align', align, tuple(ALIGNMENTS)),
        ):
            if value not in known:
                raise ValueError(f'{name}={value!r}: expected one of {", ".join(known)}')
        if beta <= 0 or cls_weight < 0:
            raise ValueError(f'beta={beta}, cls_weight={cls_weight}: expected above 0, at least 0')
        if heads == 'mean' and layers != 'last':
            raise ValueError(f"heads='mean' with layers={layers!r}: expected layers='last'")
        self.heads, self.beta, self.cls_weight, self.n_fit = heads, beta, cls_weight, n_fit

        self.teacher_networks = TeacherSet(
            teachers, self.backbone.grid_size, cell=cell_of(self.backbone)
        )
        self.teacher_cards = self.teacher_networks.cards
        width, dims = self.backbone.embed_dim, self.teacher_networks.dims
        self.pairs = None if layers == 'last' else self._check_pairs(layers)
        targets = dims if heads == 'per_teacher' else [width]
        self.target_names = self.teacher_networks.names if heads == 'per_teacher' else ['mean']
        # [target][pair]
        self.projectors = nn.ModuleList(
            nn.ModuleList(
                make_projector(projector, width, D, hidden_dim) for _ in self.pairs or (None,)
            )
            for D in targets
        )
        mean = heads == 'mean'
        self.alignment = ALIGNMENTS[align](dims, width, whiten) if mean else None
        # cls tokens have their own statistics, hence their own map; unused at weight 0.
        self.cls_alignment = ALIGNMENTS[align](dims, width, whiten) if mean and cls_weight else None
        # [teacher][pair][patch, cls]
        self.standards = nn.ModuleList(
            nn.ModuleList(
                nn.ModuleList((ChannelStandard(D), ChannelStandard(D)))
                for _ in self.pairs or (None,)
            )
            for D in (dims if standardize and not mean else ())
        )
        choose_positions(self.backbone, positions)

    def loss(self, inputs: Tensor) -> dict[str, Tensor]:
        """One step on (B, 3, H, W) images, see the module's docstring."""
        teacher_tokens = self.teacher_tokens(inputs)  # 1.
        tokens = self.student_tokens(inputs)
        predictions = [  # 3.
            [project(x) for project, x in zip(projectors, tokens, strict=True)]
            for projectors in self.projectors
        ]
        with full_precision(inputs):
            targets = self.targets(teacher_tokens)  # 2.
            terms = [  # 4.
                (self.smooth_l1(p[:, 1:], t[:, 1:]), self.smooth_l1(p[:, :1], t[:, :1]))
                for ours, theirs in zip(predictions, targets, strict=True)
                for p, t in zip(ours, theirs, strict=True)
            ]
            patch, cls = (torch.stack(values).mean() for values in zip(*terms, strict=True))
            losses = {'loss_patch': patch} | self.alignment_losses(teacher_tokens)
            if self.cls_weight:
                losses['loss_cls'] = self.cls_weight * cls
        return losses | self.diagnostics(predictions, targets)

    @torch.no_grad()
    def teacher_tokens(self, images: Tensor) -> list[list[Tensor]]:
        """[teacher][pair] -> (B, 1 + N, D_k), cls first; after the final norm for 'last'."""
        if self.pairs is None:
            return [[network.tokens(images)] for network in self.teacher_networks]
        blocks = [teacher - 1 for _, teacher in self.pairs]
        return [network.tokens(images, layers=blocks) for network in self.teacher_networks]

    def student_tokens(self, images: Tensor) -> list[Tensor]:
        """[pair] -> (B, 1 + N, d), cls first; the last block's after the final norm."""
        if self.pairs is None:
            return [self.backbone.tokens(images)]
        blocks = [student - 1 for student, _ in self.pairs]
        *raw, last = self.backbone.tokens(images, layers=blocks)
        return [*map(normalize, raw), self.backbone.norm(last)]

    def targets(self, tokens: list[list[Tensor]]) -> list[list[Tensor]]:
        """[target][pair] -> (B, 1 + N, D) float32 for [teacher][pair] tokens."""
        if self.alignment is None:
            normed = [[normalize(x) for x in of_teacher] for of_teacher in tokens]
            if not self.standards:
                return normed
            return [
                [
                    torch.cat([cls(x[:, :1]), patch(x[:, 1:])], dim=1)
                    for (patch, cls), x in zip(standards, of_teacher, strict=True)
                ]
                for standards, of_teacher in zip(self.standards, normed, strict=True)
            ]
        tokens = [x for (x,) in tokens]
        patches = normalize(_mean(self.alignment([x[:, 1:] for x in tokens])))
        if self.cls_alignment is None:
            return [[F.pad(patches, (0, 0, 1, 0))]]  # weight 0: what stands there is never used
        cls = normalize(_mean(self.cls_alignment([x[:, :1] for x in tokens])))
        return [[torch.cat([cls, patches], dim=1)]]

    def smooth_l1(self, prediction: Tensor, target: Tensor) -> Tensor:
        """Mean over tokens and channels in float32."""
        return F.smooth_l1_loss(prediction.float(), target, beta=self.beta)

    def alignment_losses(self, tokens: list[list[Tensor]]) -> dict[str, Tensor]:
        """Terms that train an alignment; none for the frozen ones."""
        if self.alignment is None:
            return {}
        losses = self.alignment.losses([x[:, 1:] for (x,) in tokens])
        if self.cls_alignment is not None:
            own = self.cls_alignment.losses([x[:, :1] for (x,) in tokens])
            losses = losses | {f'{name}_cls': value for name, value in own.items()}
        return losses

    @torch.no_grad()
    def diagnostics(
        self, predictions: list[list[Tensor]], targets: list[list[Tensor]]
    ) -> dict[str, Tensor]:
        """Per target the mean cosine of predicted and wanted patch tokens of the last pair."""
        rows = zip(self.target_names, predictions, targets, strict=True)
        return {
            f'cosine_{name}': F.cosine_similarity(
                ours[-1][:, 1:].float(), theirs[-1][:, 1:], dim=-1
            ).mean()
            for name, ours, theirs in rows
        }

    @torch.no_grad()
    def prepare(self, runner: Any) -> None:
        """Fit what targets need on ``n_fit`` training images, on the main process, for all."""
        fitted = [*filter(None, (self.alignment, self.cls_alignment)), *self.standards]
        if not self.standards and not any(part.needs_fit for part in fitted):
            return
        if is_main_process():
            self.fit(training_batches(runner, self.data_preprocessor, self.n_fit))
        for part in fitted:
            for buffer in part.buffers():
                broadcast(buffer)

    @torch.no_grad()
    def fit(self, batches: Iterator[Tensor]) -> None:
        """Fit alignment or standards on batches of whole (B, 3, H, W) images."""
        if self.alignment is not None:
            self._fit_alignment(batches)
            return
        for images in batches:
            of_teachers = zip(self.standards, self.teacher_tokens(images), strict=True)
            for standards, tokens in of_teachers:
                for (patch, cls), x in zip(standards, tokens, strict=True):
                    x = normalize(x)
                    patch.update(x[:, 1:])
                    cls.update(x[:, :1])
        for module in self.standards.modules():
            if isinstance(module, ChannelStandard):
                module.finish()

    def _fit_alignment(self, batches: Iterator[Tensor]) -> None:
        K = len(self.teacher_networks)
        moments = TokenMoments(self.teacher_networks.dims)
        cls_moments = TokenMoments(self.teacher_networks.dims)
        for images in batches:
            tokens = [x for (x,) in self.teacher_tokens(images)]
            B, N = len(images), self.backbone.num_patches
            seen = torch.ones(B, K, N, dtype=torch.bool, device=images.device)
            moments.update([x[:, 1:] for x in tokens], seen)
            cls_moments.update([x[:, :1] for x in tokens], seen[..., :1])
        self.alignment.fit(moments)
        if self.cls_alignment is not None:
            self.cls_alignment.fit(cls_moments)

    def _check_pairs(self, layers: Pairs) -> list[tuple[int, int]]:
        if not hasattr(self.backbone, 'depth'):
            raise ValueError(
                f"layers={layers!r}: the student has no blocks to choose; expected layers='last'"
            )
        depth = self.backbone.depth
        pairs = check_pairs('layers', layers, (depth, min(self.teacher_networks.depths)))
        blocks = [student for student, _ in pairs]
        if blocks[-1] != depth or len(set(blocks)) < len(blocks):
            raise ValueError(
                f'layers={layers!r}: expected each student block once and its last, {depth}, among '
                'them; blocks above the last pair would stay untrained'
            )
        return pairs


def make_projector(kind: str, width: int, target: int, hidden_dim: int | None) -> nn.Module:
    """A linear map of tokens (..., width) to (..., target), or two with GELU between."""
    if kind == 'linear':
        return nn.Linear(width, target)
    hidden = hidden_dim or target
    return nn.Sequential(nn.Linear(width, hidden), nn.GELU(), nn.Linear(hidden, target))


def _mean(tokens: Sequence[Tensor]) -> Tensor:
    return torch.stack(list(tokens)).mean(0)
