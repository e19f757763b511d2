"""CoMAD: one student learns what several masked teachers agree on (arXiv:2508.04816).

The story of a training step, in the order of :meth:`CoMAD.loss`:

1. Masks. The student sees a quarter of the patches, each teacher sees more than the student and
   a different number than the others. Dropped patches are never computed.
2. Alignment. Each teacher's tokens go through a linear map, by default a frozen one, and a
   LayerNorm into one common space of the student's width.
3. Gate. At every patch each teacher that sees it gets a weight: cosine to the student's token
   (affinity) combined with the mean cosine to the other teachers (agreement). No parameters.
4. Fusion. The weighted sum, normalised, is the consensus: the target.
5. Losses. KL between consensus and student at the student's visible patches (token level), and
   between the consensus map and a map that a light decoder rebuilds from them (map level).

The abstract states these parts. It does not state the ratios, how the adapter is found, the
formula of the gate, layers, temperatures, the axis of the KL, the decoder or the recipe: all of
these are constructor arguments, and their defaults are our choice.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from mmengine.dist import broadcast, is_main_process
from mmengine.registry import MODELS
from torch import Tensor

from comad.methods.base import PretrainMethod, full_precision, training_batches
from comad.methods.parts.alignment import ALIGNMENTS
from comad.methods.parts.decoder import MaskedDecoder
from comad.methods.parts.diagnostics import ConsensusDiagnostics, Explanation
from comad.methods.parts.fusion import Consensus, ConsensusGate, fuse
from comad.methods.parts.losses import MAP_AXES, map_kl, normalize, token_kl
from comad.methods.parts.masking import (
    RELATIONS,
    Masks,
    check_ratios,
    draw_masks,
    to_grid,
    visibility,
)
from comad.methods.parts.positions import choose_positions
from comad.methods.parts.statistics import TokenMoments
from comad.methods.parts.teacher_set import TeacherSet, cell_of


@MODELS.register_module()
class CoMAD(PretrainMethod):
    """Consensus-oriented masked distillation.

    Shape letters: B images, K teachers, N patches, n_S / n_k patches seen by the student and by
    teacher k, D_k teacher width, d student width.

    Args:
        backbone: config of the student (ViT-Tiny in the abstract): a MaskedViT, or a network whose
            tokens are the cells of its last map and which sees grey where patches are hidden.
        teachers: one dict per teacher: arguments of ``build_teacher`` (family, checkpoint, arch)
            and ``mask_ratio``. A teacher of another patch size sees resized images, so that its
            grid is the student's (our choice). Families and "progressively lighter and unique"
            masks are stated; ratios and their order are our choice.
        mask_ratio: share of patches hidden from the student (stated: 25 % remain).
        masks: 'chain' (nested, our choice) or 'student_subset', see ``masking.draw_masks``.
        align: 'procrustes' (our choice), 'pca', 'orthogonal', or the trained 'reconstruct' and
            'joint', see ``alignment``.
        whiten: whether a fitted alignment scales all directions to unit variance, our choice.
        n_fit: training images on which the alignment is fitted, our choice; none are needed for
            'orthogonal', 'reconstruct' and 'joint'.
        gate: 'sum' (stated in words), 'affinity_only', 'agreement_only', 'uniform'.
        balance: share of affinity in the sum, our choice.
        tau: temperature of the gate, our choice.
        temperature: T of both KL terms, our choice.
        map_axis: 'spatial' or 'channel' for the map term, our choice.
        map_weight: weight of the map term, our choice.
        cls_weight: weight of a KL between the fused teacher cls tokens and the student's; the
            abstract names none, so 0. The cls token is then never trained directly.
        decoder: arguments of ``MaskedDecoder``, our choice; it is dropped at export.
        positions: 'sincos' (fixed, w first) or 'learned' positions of the student, our choice.
        diagnostics_every: steps between the costlier diagnostics (effective ranks).
        alarm_steps, collapse_rank: when a warning is given, see ``diagnostics``; our choice.
        data_preprocessor: config of the preprocessor.

    Raises:
        ValueError: on an unknown option or a teacher that would see less than the student.
    """

    method_version = '2'

    def __init__(
        self,
        backbone: dict[str, Any],
        teachers: Sequence[Mapping[str, Any]],
        mask_ratio: float = 0.75,
        masks: str = 'chain',
        align: str = 'procrustes',
        whiten: bool = True,
        n_fit: int = 2048,
        gate: str = 'sum',
        balance: float = 0.5,
        tau: float = 0.1,
        temperature: float = 1.0,
        map_axis: str = 'spatial',
        map_weight: float = 1.0,
        cls_weight: float = 0.0,
        decoder: dict[str, Any] | None = None,
        positions: str = 'sincos',
        diagnostics_every: int = 50,
        alarm_steps: int = 500,
        collapse_rank: float = 0.02,
        data_preprocessor: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(backbone, data_preprocessor)
        for name, value, known in (
            ('masks', masks, RELATIONS),
            ('align', align, ALIGNMENTS),
            ('map_axis', map_axis, MAP_AXES),
        ):
            if value not in known:
                raise ValueError(f'{name}={value!r}: expected one of {", ".join(known)}')
        self.mask_ratio, self.masks = mask_ratio, masks
        self.temperature, self.n_fit = temperature, n_fit
        self.map_axis, self.map_weight, self.cls_weight = map_axis, map_weight, cls_weight

        self.teacher_ratios = [float(teacher['mask_ratio']) for teacher in teachers]
        check_ratios(self.backbone.num_patches, self.mask_ratio, self.teacher_ratios)
        grid = self.backbone.grid_size
        self.teacher_networks = TeacherSet(
            teachers, grid, reads=['mask_ratio'], cell=cell_of(self.backbone)
        )
        self.teacher_cards = self.teacher_networks.cards
        self.teacher_names = self.teacher_networks.names

        width, dims = self.backbone.embed_dim, self.teacher_networks.dims
        self.alignment = ALIGNMENTS[align](dims, width, whiten)
        # cls tokens have their own statistics, hence their own map; unused at weight 0.
        self.cls_alignment = ALIGNMENTS[align](dims, width, whiten) if cls_weight else None
        self.gate = ConsensusGate(gate, balance, tau)
        self.decoder = MaskedDecoder(width, width, grid[0], **(decoder or {}))
        choose_positions(self.backbone, positions)
        self.diagnostics = ConsensusDiagnostics(
            self.teacher_names, width, tau, diagnostics_every, alarm_steps, collapse_rank
        )

    def loss(self, inputs: Tensor) -> dict[str, Tensor]:
        """One step on (B, 3, H, W) images, see the module's docstring."""
        masks = self.draw_masks(inputs)  # 1.
        found = self.consensus(inputs, masks)  # 2. to 4.
        with full_precision(inputs):
            target, losses = self.compare(found, masks.student)  # 5.
            # Only trained maps add a term of their own.
            losses |= self.alignment.losses([x[:, 1:] for x in found.teacher_tokens])
            if self.cls_weight:
                losses |= self.cls_losses(found)
        tokens = (masks.student, target, found.student)
        return losses | self.diagnostics(found.gate, *tokens, self.progress())

    def draw_masks(self, images: Tensor) -> Masks:
        """Which patches of (B, 3, H, W) images the student and the teachers see."""
        N, ratios = self.backbone.num_patches, self.teacher_ratios
        return draw_masks(self.masks, len(images), N, self.mask_ratio, ratios, images.device)

    def consensus(self, images: Tensor, masks: Masks) -> Consensus:
        """What student and teachers make of (B, 3, H, W) images, and what the teachers agree on."""
        teacher_tokens = self.teacher_tokens(images, masks)
        student_tokens = self.backbone.tokens(images, masks.student)  # (B, 1 + n_S, d)
        rebuilt = self.decoder(student_tokens, masks.student)  # (B, N, d)
        self.alignment.check()
        with full_precision(images):
            return self.agree(teacher_tokens, student_tokens, rebuilt, masks)

    def agree(
        self,
        teacher_tokens: list[Tensor],
        student_tokens: Tensor,
        rebuilt: Tensor,
        masks: Masks,
    ) -> Consensus:
        """The consensus of teachers' (B, 1 + n_k, D_k) and the student's (B, 1 + n_S, d) tokens.

        ``rebuilt``: (B, N, d), the decoder's map. Many small steps on large tensors: compiled into
        few on a GPU, see :meth:`compile_parts`.
        """
        cls, student = normalize(student_tokens[:, :1]), normalize(student_tokens[:, 1:])
        rebuilt = normalize(rebuilt)
        # 2. Alignment
        aligned, visible = self.align(teacher_tokens, masks)
        # 3. Gate: where the student looked it is asked itself, elsewhere its decoder
        index = masks.student.unsqueeze(-1).expand_as(student)
        gate = self.gate(aligned, visible, rebuilt.detach().scatter(1, index, student.detach()))
        # 4. Fusion
        target = fuse(aligned, gate.weights)  # (B, N, d)
        return Consensus(teacher_tokens, cls, student, rebuilt, visible, gate, target)

    def compare(self, found: Consensus, keep: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """5. Losses: the consensus (B, n_S, d) at the student's patches ``keep``, and both KLs."""
        target = found.target.gather(1, keep.unsqueeze(-1).expand_as(found.student))
        seen = found.visible.any(dim=1)
        map_term = map_kl(found.target, found.rebuilt, seen, self.map_axis, self.temperature)
        return target, {
            'loss_token': token_kl(target, found.student, self.temperature),
            'loss_map': self.map_weight * map_term,
        }

    def compile_parts(self, **options: Any) -> None:
        """Compile also what comes after the networks."""
        super().compile_parts(**options)
        for name in ('agree', 'compare'):
            setattr(self, name, torch.compile(getattr(self, name), dynamic=False, **options))

    @torch.no_grad()
    def teacher_tokens(self, images: Tensor, masks: Masks) -> list[Tensor]:
        """Per teacher (B, 1 + n_k, D_k) after its final norm, cls first."""
        pairs = zip(self.teacher_networks, masks.teachers, strict=True)
        return [network.tokens(images, keep) for network, keep in pairs]

    def align(self, tokens: Sequence[Tensor], masks: Masks) -> tuple[Tensor, Tensor]:
        """Patch tokens in the common space and in raster order.

        Returns:
            (B, K, N, d) float32, zero at unseen patches, and (B, K, N) bool visibility.
        """
        patches = self.alignment([x[:, 1:] for x in tokens])
        return self._on_grid(patches, masks), self._visibility(masks)

    def cls_losses(self, found: Consensus) -> dict[str, Tensor]:
        """Token KL for the cls token: every teacher has one, so all of them are weighed."""
        tokens = [x[:, :1] for x in found.teacher_tokens]
        aligned = torch.stack(self.cls_alignment(tokens), dim=1)
        visible = torch.ones_like(aligned[..., 0], dtype=torch.bool)
        target = fuse(aligned, self.gate(aligned, visible, found.cls.detach()).weights)
        term = token_kl(target, found.cls, self.temperature)
        own = {f'{name}_cls': value for name, value in self.cls_alignment.losses(tokens).items()}
        return {'loss_cls': self.cls_weight * term} | own

    @torch.no_grad()
    def explain(self, images: Tensor) -> Explanation:
        """Masks, gate and features of (B, 3, H, W) images, for a picture."""
        masks = self.draw_masks(images)
        found, N = self.consensus(images, masks), self.backbone.num_patches
        tokens = to_grid(found.student, masks.student, N)
        return Explanation(
            {'student': visibility(masks.student, N)}
            | dict(zip(self.teacher_names, found.visible.unbind(1), strict=True)),
            dict(zip(self.teacher_names, found.gate.weights.unbind(1), strict=True)),
            {'consensus': found.target, 'student tokens': tokens, 'student map': found.rebuilt},
        )

    @torch.no_grad()
    def prepare(self, runner: Any) -> None:
        """Fit the alignment on ``n_fit`` training images, on the main process, for all."""
        if not self.alignment.needs_fit:
            return
        if is_main_process():
            self.fit(training_batches(runner, self.data_preprocessor, self.n_fit))
        for alignment in filter(None, (self.alignment, self.cls_alignment)):
            for buffer in alignment.buffers():
                broadcast(buffer)

    @torch.no_grad()
    def fit(self, batches: Iterator[Tensor]) -> None:
        """Fit the alignment on batches of (B, 3, H, W) images, each teacher under its own mask."""
        dims = self.teacher_networks.dims
        patch_moments, cls_moments = TokenMoments(dims), TokenMoments(dims)
        N = self.backbone.num_patches
        for images in batches:
            masks = self.draw_masks(images)
            tokens = self.teacher_tokens(images, masks)
            pairs = zip(tokens, masks.teachers, strict=True)
            grids = [to_grid(x[:, 1:], keep, N) for x, keep in pairs]
            patch_moments.update(grids, self._visibility(masks))
            if self.cls_alignment is not None:
                seen = masks.student.new_ones(len(images), len(tokens), 1, dtype=torch.bool)
                cls_moments.update([x[:, :1] for x in tokens], seen)
        self.alignment.fit(patch_moments)
        if self.cls_alignment is not None:
            self.cls_alignment.fit(cls_moments)

    def _on_grid(self, patches: Sequence[Tensor], masks: Masks) -> Tensor:
        N, pairs = self.backbone.num_patches, zip(patches, masks.teachers, strict=True)
        return torch.stack([to_grid(x, keep, N) for x, keep in pairs], dim=1)

    def _visibility(self, masks: Masks) -> Tensor:
        N = self.backbone.num_patches
        return torch.stack([visibility(keep, N) for keep in masks.teachers], dim=1)
