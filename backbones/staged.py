"""`StagedClassifier`: a timm classifier as four stages, a pooled feature and logits.

A network is its `front`, stages 1 to 3, then `enter`, then its `tail`; another network's features
may enter the tail. Where the stages lie is told by `stage_cuts`, and what the shapes mean.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import timm
import torch
from mmengine.registry import MODELS
from timm.models.mlp_mixer import MlpMixer
from torch import Tensor, nn

from .architectures import network_config
from .names import meant
from .stage_cuts import CUTS, Stages, SwinCut, Tail
from .staged_table import CNN, STAGED, STRIDES
from .student import LoadsStudent, StudentWeights

# timm's modules whose networks are built for one size of images.
SIZED = ('vision_transformer', 'deit', 'mlp_mixer', 'swin_transformer')


@MODELS.register_module(name=STAGED)
class StagedClassifier(LoadsStudent, nn.Module):
    """A timm classifier in four stages, a `Classifier` and, with strides, a `MapNetwork`.

    Args:
        arch: Name in `ARCHITECTURES`, whose arguments are the defaults of all others.
        model: timm's name; ``MlpMixer`` for that class, whose named forms have fixed sizes.
        img_size: Edge of its images in pixels.
        num_classes: Outputs of the classifier; 0: there is none.
        out_indices: Stages, from 0, whose maps `forward` gives; the network then has no
            classifier, takes images of any size, and what the maps do not reach is not trained.
        frozen: Nothing is trained and batch norms stay as they are.
        drop_path_rate: Stochastic depth; None: the network's own.
        init_cfg: See `StudentWeights`.
        changes: Further arguments of timm's constructor.

    Attributes:
        family, num_prefix: See `Cut`.
        embed_dim: Width D of the pooled feature.
        grids: Places per column and row at the end of the four stages.
        tail_grid, tail_width: Of what enters the tail.
        widths: Of the four stages.

    Raises:
        ValueError: timm has no such model, nobody knows its cuts, or it has no maps.
    """

    def __init__(
        self,
        arch: str | None = None,
        model: str | None = None,
        img_size: int | None = None,
        num_classes: int = 0,
        out_indices: Sequence[int] | None = None,
        frozen: bool = False,
        drop_path_rate: float | None = None,
        init_cfg: dict[str, Any] | None = None,
        **changes: Any,
    ) -> None:
        super().__init__()
        self.init_student = StudentWeights.from_cfg(init_cfg)
        known = network_config(arch) if arch else {}
        if known.pop('type', STAGED) != STAGED:
            raise ValueError(f'arch={arch!r} is no {STAGED}')
        model, size = model or known.pop('model', ''), img_size or known.pop('img_size', 224)
        known = {k: v for k, v in known.items() if k not in ('model', 'img_size')}
        self.model, self.img_size, self.changes = model, size, {**known, **changes}
        self.out_indices = None if out_indices is None else tuple(out_indices)
        self.num_classes = 0 if self.out_indices is not None else num_classes
        self.net = self._build(drop_path_rate)
        kind = next((kind for kind in CUTS if isinstance(self.net, kind)), None)
        if kind is None:
            names = ', '.join(kind.__name__ for kind in CUTS)
            raise ValueError(f'{model} is a {type(self.net).__name__}; cuts are known of {names}')
        self.cut = CUTS[kind](self.net)
        self.family, self.num_prefix = self.cut.family, self.cut.num_prefix
        self.embed_dim: int = self.net.num_features
        self._measure()
        self.frozen = frozen
        if self.out_indices is not None:
            self._check_maps()
        if frozen:
            self.requires_grad_(False).eval()

    @property
    def exports(self) -> str:
        """What it is exported for: class scores, or pooled features without a classifier."""
        return 'logits' if self.num_classes else 'features'

    @property
    def grid_size(self) -> tuple[int, int]:
        """Places per column and row of the last stage."""
        return (self.grids[-1],) * 2

    @property
    def num_patches(self) -> int:
        """Places of the last stage."""
        return self.grids[-1] ** 2

    @property
    def patch_size(self) -> int:
        """Edge in pixels of a place of the last stage."""
        return self.img_size // self.grids[-1]

    def tokens(
        self, images: Tensor, keep: Tensor | None = None, layers: list[int] | None = None
    ) -> Tensor:
        """Places of the last stage (B, 1 + n, D), normalised; first the class token or their mean.

        Nothing can be left out of a map: places that are not kept are grey in the image, 0 after
        normalisation (our choice), and cost what the others cost.

        Raises:
            ValueError: ``layers``, which are blocks of ViTs.
        """
        if layers is not None:
            raise ValueError(f'{self.model} is read after its last stage only')
        if keep is not None:
            seen = images.new_zeros(len(images), self.num_patches).scatter(1, keep, 1.0)
            seen = seen.view(-1, 1, *self.grid_size)
            images = images * nn.functional.interpolate(seen, images.shape[-2:], mode='nearest')
        found = self.cut.places(self.cut.last(self.enter(self.front(images)[-1])))
        first, places = found[:, :1], found[:, self.num_prefix :]
        if keep is not None:
            places = places.gather(1, keep[..., None].expand(-1, -1, places.shape[-1]))
        if not self.num_prefix:
            first = places.mean(1, keepdim=True)
        return torch.cat([first, places], dim=1)

    @property
    def size_divisor(self) -> int:
        """Edges of images: any for CNNs, whole windows of patches for Swin, else the network's."""
        if self.family == CNN:
            return 1
        return STRIDES[-1] if hasattr(self, 'strides') else self.img_size

    @property
    def any_size(self) -> bool:
        """Whether images of any size are taken, as CNNs do."""
        return not self.sized

    def architecture(self) -> dict[str, Any]:
        """timm's name and what differs from it; classes unless there is no classifier.

        The name is without the tag of timm's weights, which are not in this network.
        """
        head = {'num_classes': self.num_classes} if self.num_classes else {}
        model = self.model.partition('.')[0]
        network = {'type': STAGED, 'model': model, 'img_size': self.img_size}
        return {**network, **head, **{k: _listed(v) for k, v in self.changes.items()}}

    def timm_model(self) -> tuple[str, dict[str, Any]]:
        """timm's name and the arguments that differ from it, for exports.

        Raises:
            ValueError: timm builds no such network by a name.
        """
        if not timm.is_model(self.model):
            raise ValueError(f'timm has no name for a {self.model} of this size')
        size = {'img_size': self.img_size} if self.sized and self.img_size != 224 else {}
        return self.model.partition('.')[0], {**size, **self.changes}

    def front(self, images: Tensor) -> list[Tensor]:
        """Raw stages 1 to 3 of normalised images: maps (B, C, H, W) or tokens (B, T, D)."""
        return self.cut.front(images)

    def enter(self, x: Tensor) -> Tensor:
        """Stage 3 as it enters the tail."""
        return self.cut.enter(x)

    def tail(self, x: Tensor) -> Tail:
        """Stage 4, pooled feature and logits of ``enter(stage 3)``, or of other features.

        Args:
            x: Of ``tail_width``, at ``tail_grid`` x ``tail_grid`` places: a map or tokens.
        """
        return self.cut.tail(x)

    def stages(self, images: Tensor) -> Stages:
        """Everything at once."""
        front = self.front(images)
        tail = self.tail(self.enter(front[-1]))
        return Stages((*front, tail.stage), *tail[1:])

    def class_token(self) -> Tensor | None:
        """(1, 1, D) of a ViT, without position; None of other networks."""
        return self.net.cls_token if self.num_prefix else None

    def logits(self, images: Tensor) -> Tensor:
        """Class scores (B, K)."""
        return self.stages(images).logits

    def features(self, images: Tensor) -> dict[str, Tensor]:
        """Pooled features (B, D), float32."""
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.frozen):
            found = self.stages(images)
        pools = {'mean': found.pooled.float()}
        return pools | ({'cls': found.penultimate.float()} if self.num_prefix else {})

    def maps(self, images: Tensor) -> tuple[Tensor, ...]:
        """The stages as maps (B, C, H / stride, W / stride).

        Raises:
            ValueError: of a network without such strides.
        """
        if not hasattr(self, 'strides'):
            raise ValueError(f'{self.model} has one grid, no maps at strides {STRIDES}')
        if isinstance(self.cut, SwinCut):
            found = self.cut.maps(images)
            found.append(self.net.layers[3](found[-1]))
            return tuple(x.permute(0, 3, 1, 2).contiguous() for x in found)
        found = self.front(images)
        return (*found, self.cut.last(found[-1]))

    def forward(self, images: Tensor) -> Tensor | tuple[Tensor, ...]:
        """Class scores, or the maps of ``out_indices``."""
        if self.out_indices is None:
            return self.logits(images)
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.frozen):
            maps = self.maps(images)
        return tuple(maps[i] for i in self.out_indices)

    def train(self, mode: bool = True) -> 'StagedClassifier':
        """Batch norms of a frozen network stay in eval mode."""
        return super().train(mode and not self.frozen)

    def init_weights(self) -> None:
        """MMEngine's call: fill from the student's file; timm has drawn random weights already."""
        self.load_weights()

    def adapt(self, tensors: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        """Those of a student's file that this network has: without a classifier, all others."""
        if self.num_classes:
            return tensors
        return {name: value for name, value in tensors.items() if not self._is_head(name)}

    def head_names(self) -> list[str]:
        """Names of the classifier's tensors in a file."""
        return [name for name in self.net.state_dict() if self._is_head(name)]

    def _is_head(self, name: str) -> bool:
        named = timm.is_model(self.model) and timm.get_pretrained_cfg_value(
            self.model, 'classifier'
        )
        return name.startswith(f'{named or "head"}.')

    @property
    def network(self) -> nn.Module:
        """The module that a weight file fills: timm's, by its own names."""
        return self.net

    def _build(self, drop_path_rate: float | None) -> nn.Module:
        if self.model == MlpMixer.__name__:
            self.sized = True
            return MlpMixer(self.num_classes, self.img_size, **self.changes)
        if not timm.is_model(self.model):
            near = meant(self.model, timm.list_models())
            raise ValueError(f'model={self.model!r}: timm has no such network{near}')
        arguments = {k: tuple(v) if isinstance(v, list) else v for k, v in self.changes.items()}
        if drop_path_rate is not None:
            arguments['drop_path_rate'] = drop_path_rate
        module = timm.models.model_entrypoint(self.model).__module__.rpartition('.')[2]
        self.sized = module in SIZED
        if self.sized:
            arguments['img_size'] = self.img_size
        if module == 'swin_transformer' and self.out_indices is not None:
            # The windows that were trained are then laid over any image, padded.
            arguments['strict_img_size'] = False
        try:
            return timm.create_model(
                self.model, pretrained=False, num_classes=self.num_classes, **arguments
            )
        except (RuntimeError, TypeError) as error:
            raise ValueError(f'timm cannot build model={self.model!r}: {error}') from None

    @torch.no_grad()
    def _measure(self) -> None:
        """Read the shapes of an image's stages."""
        self.net.eval()
        front = self.front(torch.zeros(1, 3, self.img_size, self.img_size))
        entered = self.enter(front[-1])
        stages = (*front, self.cut.last(entered))
        self.net.train()
        self.widths = tuple(map(self._width, stages))
        self.grids = tuple(map(self._grid, stages))
        self.tail_width, self.tail_grid = self._width(entered), self._grid(entered)
        if tuple(self.img_size // grid for grid in self.grids) == STRIDES:
            self.strides = STRIDES

    def _width(self, x: Tensor) -> int:
        return x.shape[1] if self.family == CNN else x.shape[2]

    def _grid(self, x: Tensor) -> int:
        return x.shape[-1] if self.family == CNN else math.isqrt(x.shape[1] - self.num_prefix)

    def _check_maps(self) -> None:
        """Freeze the last norm, which no map reaches: DistributedDataParallel stops on it."""
        if not hasattr(self, 'strides'):
            raise ValueError(f'{self.model} has one grid, no maps at strides {STRIDES}')
        if not self.out_indices or max(self.out_indices) != 3 or min(self.out_indices) < 0:
            raise ValueError(f'out_indices={self.out_indices}: expected some of 0 to 3, 3 included')
        for name, parameter in self.net.named_parameters():
            if name.startswith(('norm.', 'head.')):
                parameter.requires_grad_(False)


def _listed(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value
