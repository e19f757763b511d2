"""MoCo v3: match two views of an image among the batch (arXiv:2104.02057 and its official code)."""

import copy
import math
from typing import Any

import torch
import torch.nn.functional as F
from mmengine.dist import all_gather, get_rank, get_world_size
from mmengine.logging import MessageHub
from mmengine.registry import MODELS
from torch import Tensor, nn

from comad.methods.base import PretrainMethod, full_precision, update_average
from comad.methods.parts.positions import fix_positions

# name -> hidden width, output width of the heads. 4096 / 256 are official; the sample's are ours.
HEADS = {
    'tiny': (4096, 256),
    'small': (4096, 256),
    'base': (4096, 256),
    'sample_tiny': (256, 64),
    'sample_base': (256, 64),
}


def mlp(layers: int, in_dim: int, hidden_dim: int, out_dim: int) -> nn.Sequential:
    """Bias-free linear layers, each followed by BatchNorm; ReLU between, none at the end.

    The last BatchNorm has no affine part. Module names are those of the official checkpoints.
    """
    parts: list[nn.Module] = []
    for index in range(layers):
        last = index == layers - 1
        width = out_dim if last else hidden_dim
        parts.append(nn.Linear(in_dim if index == 0 else hidden_dim, width, bias=False))
        parts.append(nn.BatchNorm1d(width, affine=not last))
        if not last:
            parts.append(nn.ReLU(inplace=True))
    return nn.Sequential(*parts)


def contrastive_loss(queries: Tensor, keys: Tensor, temperature: float) -> Tensor:
    """InfoNCE of each query against the keys of all processes; its own key is the positive.

    Args:
        queries: (B, d), with gradient.
        keys: (B, d), without.
        temperature: tau; the loss carries the official factor 2 tau.
    """
    queries = F.normalize(queries.float(), dim=1)
    keys = F.normalize(keys.float(), dim=1)
    if get_world_size() > 1:
        keys = torch.cat(all_gather(keys))
    labels = torch.arange(len(queries), device=queries.device) + get_rank() * len(queries)
    with full_precision(queries):
        return 2 * temperature * F.cross_entropy(queries @ keys.T / temperature, labels)


@torch.no_grad()
def init_as_mocov3(backbone: nn.Module) -> None:
    """MoCo v3's initialisation: q, k, v as three Xavier matrices, cls 1e-6, uniform patches."""
    for name, module in backbone.named_modules():
        if isinstance(module, nn.Linear):
            fused = 3 if name.endswith('attn.qkv') else 1
            fan = module.weight.shape[0] // fused + module.weight.shape[1]
            nn.init.uniform_(module.weight, -math.sqrt(6 / fan), math.sqrt(6 / fan))
            nn.init.zeros_(module.bias)
    nn.init.normal_(backbone.cls_token, std=1e-6)
    projection = backbone.patch_embed.proj
    bound = math.sqrt(6 / (3 * backbone.patch_size**2 + backbone.embed_dim))
    nn.init.uniform_(projection.weight, -bound, bound)
    nn.init.zeros_(projection.bias)


@MODELS.register_module()
class MoCoV3(PretrainMethod):
    """Two views; each view's prediction must find the other's key among the batch's keys.

    Args:
        backbone: config of the MaskedViT; its positions become the fixed sin-cos table, h first,
            and its patch embedding stays at its random values (official ``--stop-grad-conv1``).
        temperature: of the softmax (official 0.2).
        momentum: of the key encoder at the start; rises to 1 along a cosine (official 0.99).
        head: ``arch`` (a name in ``HEADS``), or ``hidden_dim`` and ``out_dim``, of projector and
            predictor; the sample's sizes are our choice.
        data_preprocessor: config of the preprocessor.

    The heads use BatchNorm over the local batch; ``sync_bn = 'torch'`` in the config makes it
    global over GPUs, as in the official runs.
    """

    vit_only = True

    def __init__(
        self,
        backbone: dict[str, Any],
        temperature: float = 0.2,
        momentum: float = 0.99,
        head: dict[str, Any] | None = None,
        data_preprocessor: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(backbone, data_preprocessor)
        self.temperature, self.momentum = temperature, momentum
        sizes = dict(head or {})
        hidden, out = HEADS[sizes.pop('arch', 'base')]
        hidden, out = sizes.pop('hidden_dim', hidden), sizes.pop('out_dim', out)
        if sizes:
            raise ValueError(f'head has unknown keys {sorted(sizes)}: arch, hidden_dim, out_dim')
        fix_positions(self.backbone, first='h')
        init_as_mocov3(self.backbone)
        self.backbone.patch_embed.requires_grad_(False)
        self.projector = mlp(3, self.backbone.embed_dim, hidden, out)
        self.predictor = mlp(2, out, hidden, out)
        self.momentum_encoder = copy.deepcopy(self.backbone).requires_grad_(False)
        self.momentum_projector = copy.deepcopy(self.projector).requires_grad_(False)

    def init_weights(self) -> None:
        """Load what the config names, then let the key encoder start at the same weights."""
        super().init_weights()
        update_average(self.momentum_encoder, self.backbone, 0.0)
        update_average(self.momentum_projector, self.projector, 0.0)

    def key_momentum(self) -> float:
        """Current momentum of the key encoder."""
        return 1 - 0.5 * (1 + math.cos(math.pi * self.progress())) * (1 - self.momentum)

    def loss(self, inputs: list[Tensor]) -> dict[str, Tensor]:
        """Symmetric InfoNCE of two views, each (B, 3, H, W)."""
        first, second = inputs
        views = torch.cat([first, second])
        # Both views pass the trunk at once; BatchNorm sees each view alone, as officially.
        queries = [
            self.predictor(self.projector(x)) for x in self.backbone.tokens(views)[:, 0].chunk(2)
        ]
        with torch.no_grad():
            update_average(self.momentum_encoder, self.backbone, self.key_momentum())
            update_average(self.momentum_projector, self.projector, self.key_momentum())
            cls = self.momentum_encoder.tokens(views)[:, 0]
            keys = [self.momentum_projector(x) for x in cls.chunk(2)]
        losses = {
            'loss_view1': contrastive_loss(queries[0], keys[1], self.temperature),
            'loss_view2': contrastive_loss(queries[1], keys[0], self.temperature),
        }
        losses['key_std'] = F.normalize(keys[0].float(), dim=1).std(dim=0).mean()
        return losses

    def official_checkpoint(self) -> tuple[str, dict[str, Any]]:
        """File name and content in the layout of MoCo v3's DDP checkpoints."""
        parts = {
            'base_encoder.': self.backbone,
            'base_encoder.head.': self.projector,
            'momentum_encoder.': self.momentum_encoder,
            'momentum_encoder.head.': self.momentum_projector,
            'predictor.': self.predictor,
        }
        state = {
            f'module.{prefix}{name}': tensor
            for prefix, part in parts.items()
            for name, tensor in part.state_dict().items()
        }
        epoch = MessageHub.get_current_instance().get_info('max_epochs') or 0
        name = f'vit-{self.arch[0]}-300ep.pth.tar'
        return name, {'epoch': epoch, 'arch': f'vit_{self.arch}', 'state_dict': state}
