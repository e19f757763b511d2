"""iBOT: self-distillation of cls token and masked patches (arXiv:2111.07832, official code)."""

import math
from typing import Any

import torch
import torch.nn.functional as F
from mmengine.dist import all_reduce, get_world_size
from mmengine.registry import MODELS
from timm.layers import trunc_normal_
from torch import Tensor, nn

from comad.methods.base import PretrainMethod, full_precision, update_average
from comad.methods.mae import init_as_mae

# name -> prototypes, hidden width, bottleneck, batch norm, length of the prototypes fixed. 8192 /
# 2048 / 256 without batch norm are official, and so is that ViT-Small's lengths are trained; the
# sample's sizes are ours. Embeddings of different images start almost equal (cosine 0.99), and a
# few hundred steps do not lead away from there; batch norm (an option of the official code) starts
# them apart.
HEADS = {
    'tiny': (8192, 2048, 256, False, False),
    'small': (8192, 2048, 256, False, False),
    'base': (8192, 2048, 256, False, True),
    'sample_tiny': (256, 256, 64, True, False),
    'sample_base': (256, 256, 64, True, True),
}


class DINOHead(nn.Module):
    """Three linear layers with GELU, L2 norm, then a weight-normalised layer of prototypes.

    cls and patch tokens share one head (official ``--shared_head true``). Only the directions of
    ``prototypes`` count; their lengths are 1 or, without ``norm_last_layer``, ``lengths``. Still
    the length at which they start matters: Adam's step does not grow with it, so it decides how
    fast directions turn. Officially it is that of a linear layer's rows, about 0.58.

    Args:
        in_dim: width of the tokens.
        out_dim: number of prototypes.
        hidden_dim: width of the hidden layers.
        bottleneck: width before the prototypes.
        norm: batch norm after the hidden layers, off officially.
        norm_last_layer: keep the prototypes' lengths at 1 (official ``--norm_last_layer``).
    """

    def __init__(
        self,
        in_dim: int,
        out_dim: int,
        hidden_dim: int,
        bottleneck: int,
        norm: bool = False,
        norm_last_layer: bool = True,
    ) -> None:
        super().__init__()
        parts: list[nn.Module] = []
        for width in (in_dim, hidden_dim):
            parts.append(nn.Linear(width, hidden_dim))
            parts += [nn.BatchNorm1d(hidden_dim)] if norm else []
            parts.append(nn.GELU())
        self.mlp = nn.Sequential(*parts, nn.Linear(hidden_dim, bottleneck))
        for module in self.mlp:
            if isinstance(module, nn.Linear):
                trunc_normal_(module.weight, std=0.02)
                nn.init.zeros_(module.bias)
        bound = bottleneck**-0.5
        self.prototypes = nn.Parameter(torch.empty(out_dim, bottleneck).uniform_(-bound, bound))
        self.lengths = None if norm_last_layer else nn.Parameter(torch.ones(out_dim, 1))

    def embed(self, tokens: Tensor) -> Tensor:
        """(M, in_dim) -> (M, bottleneck), unit length."""
        return F.normalize(self.mlp(tokens), dim=-1)

    def scores(self, embedded: Tensor) -> Tensor:
        """(..., bottleneck) -> (..., out_dim), float32; linear in its argument."""
        with full_precision(embedded):
            weight = F.normalize(self.prototypes.float(), dim=-1)
            if self.lengths is not None:
                weight = weight * self.lengths.float()
            return F.linear(embedded.float(), weight)

    def last_layer(self) -> list[nn.Parameter]:
        """What officially waits for the end of the first epochs."""
        return [self.prototypes] if self.lengths is None else [self.prototypes, self.lengths]


def block_masks(
    batch: int, grid: int, ratios: Tensor, rounds: int = 20, device: torch.device | str = 'cpu'
) -> Tensor:
    """Masks made of rectangles, drawn for the whole batch at once.

    The rule is that of BEiT and iBOT (aspect ratio 0.3 to 1/0.3, smallest area (grid // 3)^2,
    never more than the budget); drawing all images of a batch in parallel for a fixed number of
    rounds is our choice, since a Python loop per image would hold up the device.

    Args:
        batch: B.
        grid: patches per side.
        ratios: (B,) share to mask at most; 0 masks nothing.
        rounds: rectangles tried per image.

    Returns:
        (B, grid * grid) bool, True = masked.
    """
    budget = ratios.to(device) * grid * grid
    mask = torch.zeros(batch, grid, grid, dtype=torch.bool, device=device)
    steps = torch.arange(grid, device=device)
    low = float((grid // 3) ** 2)
    for _ in range(rounds):
        left = budget - mask.sum(dim=(1, 2))
        area = low + torch.rand(batch, device=device) * (left - low)
        aspect = ((torch.rand(batch, device=device) * 2 - 1) * math.log(1 / 0.3)).exp()
        area = area.clamp(min=0)
        height, width = (area * aspect).sqrt().round(), (area / aspect).sqrt().round()
        top = (torch.rand(batch, device=device) * (grid - height + 1)).floor()
        start = (torch.rand(batch, device=device) * (grid - width + 1)).floor()
        inside_rows = (steps >= top[:, None]) & (steps < (top + height)[:, None])
        inside_columns = (steps >= start[:, None]) & (steps < (start + width)[:, None])
        rectangle = inside_rows[:, :, None] & inside_columns[:, None, :]
        added = (rectangle & ~mask).sum(dim=(1, 2))
        accept = (height < grid) & (width < grid) & (added > 0) & (added <= left)
        mask |= rectangle & accept[:, None, None]
    return mask.flatten(1)


def random_masks(
    batch: int, grid: int, ratios: Tensor, device: torch.device | str = 'cpu'
) -> Tensor:
    """Scattered masks of int(ratio * grid^2) patches: (B, grid * grid) bool."""
    count = (ratios.to(device) * grid * grid).int()
    rank = torch.rand(batch, grid * grid, device=device).argsort(1).argsort(1)
    return rank < count[:, None]


MASK_SHAPES = {'block': block_masks, 'random': random_masks}


def cross_entropy(target: Tensor, scores: Tensor, temperature: float) -> Tensor:
    """-sum target * log_softmax(scores / temperature) over the last axis, float32."""
    return -(target * F.log_softmax(scores.float() / temperature, dim=-1)).sum(-1)


@MODELS.register_module()
class IBOT(PretrainMethod):
    """Student matches an averaged teacher: cls across views, masked patches within a view.

    Args:
        backbone: config of the MaskedViT; needs ``use_mask_token=True``.
        head: ``arch`` (a name in ``HEADS``), or single arguments of ``DINOHead``.
        student_temp: official 0.1.
        teacher_temp: start, end and share of the training's epochs over which it rises, a step per
            epoch that reaches the end in the last of them (official 0.04 to 0.07 over 30-50 epochs;
            stated as a share so that it fits any length).
        teacher_momentum: at the start; rises to 1 along a cosine (official 0.996). The teacher
            follows after every step of the optimizer.
        center_momentum: of both centres (official 0.9).
        freeze_prototypes: share of the training in which the last layer has no gradient, so that
            the optimizer passes it over (official: the first epoch).
        mask_ratio: centre and half width of the masked share, applied to half of the images
            (official ``--pred_ratio 0 0.3 --pred_ratio_var 0 0.2``).
        mask_shape: 'block' (official default) or 'random'.
        patch_weight: weight of the patch loss against the cls loss (official 1).
        init: 'timm' (matrices and class token 0.02, official) or 'mae' (Xavier), which suits narrow
            networks. The mask token starts at zero.
        data_preprocessor: config of the preprocessor.

    Raises:
        ValueError: on an unknown mask shape or head key, or a backbone without mask token.
    """

    method_version = '2'
    vit_only = True

    def __init__(
        self,
        backbone: dict[str, Any],
        head: dict[str, Any] | None = None,
        student_temp: float = 0.1,
        teacher_temp: tuple[float, float, float] = (0.04, 0.07, 0.125),
        teacher_momentum: float = 0.996,
        center_momentum: float = 0.9,
        freeze_prototypes: float = 0.0025,
        mask_ratio: tuple[float, float] = (0.3, 0.2),
        mask_shape: str = 'block',
        patch_weight: float = 1.0,
        init: str = 'timm',
        data_preprocessor: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(backbone, data_preprocessor)
        if mask_shape not in MASK_SHAPES:
            raise ValueError(f'mask_shape={mask_shape!r}: expected one of {", ".join(MASK_SHAPES)}')
        if self.backbone.mask_token is None:
            raise ValueError('iBOT needs backbone=dict(..., use_mask_token=True)')
        if init not in ('timm', 'mae'):
            raise ValueError(f'init={init!r}: expected timm or mae')
        if init == 'mae':
            init_as_mae(self.backbone)
        else:
            trunc_normal_(self.backbone.cls_token, std=0.02)
        sizes = dict(head or {})
        table = HEADS[sizes.pop('arch', 'base')]
        names = ('out_dim', 'hidden_dim', 'bottleneck', 'norm', 'norm_last_layer')
        shape = [sizes.pop(name, default) for name, default in zip(names, table, strict=True)]
        if sizes:
            raise ValueError(f'head has unknown keys {sorted(sizes)}: arch, {", ".join(names)}')
        self.student_temp, self.teacher_temp = student_temp, tuple(teacher_temp)
        self.teacher_momentum, self.center_momentum = teacher_momentum, center_momentum
        self.freeze_prototypes = freeze_prototypes
        self.mask_ratio, self.mask_shape = tuple(mask_ratio), mask_shape
        self.patch_weight = patch_weight

        self.head = DINOHead(self.backbone.embed_dim, *shape)
        # The teacher has no mask token and no stochastic depth.
        plain = {**backbone, 'use_mask_token': False, 'drop_path_rate': 0.0, 'init_cfg': None}
        self.teacher = MODELS.build(plain).requires_grad_(False).eval()
        self.teacher_head = DINOHead(self.backbone.embed_dim, *shape).requires_grad_(False)
        self.register_buffer('cls_center', torch.zeros(shape[0]))
        self.register_buffer('patch_center', torch.zeros(shape[0]))
        self._update_teacher(0.0)

    @property
    def exported(self) -> nn.Module:
        """The averaged teacher, as in the official release."""
        return self.teacher

    def init_weights(self) -> None:
        """Load what the config names, then let the teacher start at the same weights."""
        super().init_weights()
        self._update_teacher(0.0)

    def train(self, mode: bool = True) -> 'IBOT':
        """The teacher stays in eval mode; its head does not, a batch norm uses the batch."""
        super().train(mode)
        self.teacher.eval()
        return self

    def before_step(self) -> None:
        """In the first epochs the last layer has no gradient: its moments and decay stand still."""
        if self.progress() < self.freeze_prototypes:
            for parameter in self.head.last_layer():
                parameter.grad = None

    def after_step(self) -> None:
        """The teacher follows the student."""
        rest = 0.5 * (1 + math.cos(math.pi * self.progress())) * (1 - self.teacher_momentum)
        self._update_teacher(1 - rest)

    def temperature(self) -> float:
        """The teacher's in this epoch; that of the first outside a runner."""
        start, end, share = self.teacher_temp
        epoch, epochs = self.epoch()
        if not epochs:
            return start
        rising = round(share * epochs)
        return start + (end - start) * epoch / max(1, rising - 1) if epoch < rising else end

    def loss(self, inputs: list[Tensor]) -> dict[str, Tensor]:
        """Losses of a multi-crop batch: two global views (B, 3, H, W), then any local ones."""
        batch, views = len(inputs[0]), torch.cat(inputs[:2])
        mask = self._draw_masks(views)
        places = mask.nonzero(as_tuple=True)  # once, since it makes the host wait for a GPU
        cls_target, patch_target = self._targets(views, places)

        x = self.backbone.norm(self.backbone.run(self.backbone.embed(views, mask=mask)))
        student_cls = [x[:, 0]]
        if len(inputs) > 2:
            student_cls.append(self.backbone.tokens(torch.cat(inputs[2:]))[:, 0])
        cls_scores = self.head.scores(self.head.embed(torch.cat(student_cls))).split(batch)
        patch_scores = self.head.scores(self.head.embed(x[:, 1:][places]))
        loss_patch = self._patch_loss(patch_target, patch_scores, mask, places)
        return {
            'loss_cls': self._cls_loss(cls_target.split(batch), cls_scores),
            'loss_patch': self.patch_weight * loss_patch,
            'target_entropy': torch.special.entr(cls_target).sum(-1).mean(),
        }

    def _cls_loss(self, targets: tuple[Tensor, ...], scores: tuple[Tensor, ...]) -> Tensor:
        """Mean over all pairs of a teacher's global view and another view of the student."""
        terms = [
            cross_entropy(target, score, self.student_temp).mean()
            for i, target in enumerate(targets)
            for j, score in enumerate(scores)
            if i != j
        ]
        return torch.stack(terms).mean()

    def _patch_loss(
        self, target: Tensor, scores: Tensor, mask: Tensor, places: tuple[Tensor, Tensor]
    ) -> Tensor:
        """Mean over the masked patches of each image, then over images; 0 for unmasked images."""
        per_image = mask.sum(1, keepdim=True).clamp(min=1)
        weight = (1 / per_image).expand_as(mask)[places]
        return (cross_entropy(target, scores, self.student_temp) * weight).sum() / len(mask)

    @torch.no_grad()
    def _targets(self, views: Tensor, places: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        """Centred, sharpened teacher distributions of cls tokens (2B) and of masked patches (M).

        ``places`` are the M images and patches that are masked.
        """
        tokens = self.teacher.tokens(views)
        cls = self.teacher_head.scores(self.teacher_head.embed(tokens[:, 0]))
        embedded = self.teacher_head.embed(tokens[:, 1:].flatten(0, 1)).float()
        image, patch = places
        patches = self.teacher_head.scores(embedded[image * (tokens.shape[1] - 1) + patch])
        temperature = self.temperature()
        cls_target = ((cls - self.cls_center) / temperature).softmax(-1)
        patch_target = ((patches - self.patch_center) / temperature).softmax(-1)
        # The scores are linear in the embedding: the mean over all patches costs one vector.
        self._move_center(self.cls_center, cls.mean(0))
        self._move_center(self.patch_center, self.teacher_head.scores(embedded.mean(0)))
        return cls_target, patch_target

    def _move_center(self, center: Tensor, mean: Tensor) -> None:
        if get_world_size() > 1:
            mean = mean.contiguous()
            all_reduce(mean, op='mean')
        center.lerp_(mean, 1 - self.center_momentum)

    def _update_teacher(self, momentum: float) -> None:
        update_average(self.teacher, self.backbone, momentum)
        update_average(self.teacher_head, self.head, momentum)

    def _draw_masks(self, views: Tensor) -> Tensor:
        batch, device = len(views), views.device
        grid = views.shape[-1] // self.backbone.patch_size
        centre, spread = self.mask_ratio
        ratios = centre + (torch.rand(batch, device=device) * 2 - 1) * spread
        ratios = ratios * (torch.rand(batch, device=device) < 0.5)
        return MASK_SHAPES[self.mask_shape](batch, grid, ratios, device=device)

    def official_checkpoint(self) -> tuple[str, dict[str, Any]]:
        """File name and content of iBOT's teacher-only release: ``{'state_dict': bare keys}``."""
        return 'checkpoint_teacher.pth', {'state_dict': self.teacher.state_dict()}
