"""What a config costs: parameters and GFLOPs of its parts, and hours at a stated speed."""

import copy
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from mmengine.config import ConfigDict
from mmengine.registry import MODELS, DefaultScope
from torch import Tensor, nn
from torch._subclasses.fake_tensor import (
    DataDependentOutputException,
    DynamicOutputShapeException,
    FakeTensorMode,
)
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from backbones import untrained_teachers
from comad.data.identity import IMAGENET100, IMAGENET100_IMAGES
from comad.engine.batches import image_size, make_batch
from comad.engine.flops import training_flops
from comad.tasks.protocol import lookup

TRAIN_IMAGES = {
    'data/imagenet': 1_281_167,
    'data/cifar-100-binary': 50_000,
    'data/sample/imagenet': 6_000,
    'data/sample/cifar-100-binary': 6_000,
    # Videos: a step over one is counted with all clips that are made of it.
    'data/kinetics400': 240_436,
    'data/ssv2': 168_913,
    'data/sample_video/kinetics400': 1_200,
    'data/sample_video/ssv2': 1_200,
}
VAL_IMAGES = {'data/imagenet': 50_000, 'data/cifar-100-binary': 10_000}
STEP_IMAGES = 2  # batch norms need more than one
PROPOSALS, MASKS = 1000, 100  # that a detector tests
# A backward pass costs two forward passes.
TRAINED, FROZEN = 3, 1
# What a worker is assumed to decode a second: 40 ms of a video of 300 frames of 320 x 240 px.
DECODE_RATES = {'image': 300.0, 'video': 25.0}


@dataclass(frozen=True)
class Cost:
    """Cost of one model.

    Attributes:
        parameters: Parameters by part, ``backbone`` first, then everything else.
        gflop: GFLOP (2 per multiply-add) of one forward pass of one image at test size, by part.
            Operators outside of torch (RoIAlign, NMS) are not counted. Empty for a pretraining,
            which is never tested.
        trained_gflop: The same of one training image: the forward pass, twice more for what has
            gradients; for a pretraining counted in a real step, frozen teachers included.
        images: Training images of the whole run.
        workers: Data workers of all processes, where the images are ImageNet's or videos; else 0.
        step_gflop: Of a pretraining, GFLOP of a step per clip or image: forward by part, the rest,
            backward. With ``samples`` of these an image costs ``trained_gflop``.
        unit: What is decoded, 'image' or 'video'; ``images`` counts these.
        samples: Training samples that are made of each.
    """

    parameters: dict[str, int]
    gflop: dict[str, float]
    trained_gflop: float
    images: int
    workers: int
    step_gflop: dict[str, float] = field(default_factory=dict)
    unit: str = 'image'
    samples: int = 1

    def hours(self, gpus: int, tflops: float) -> float:
        """Hours of computing on ``gpus`` that each sustain ``tflops``, evaluation left out."""
        return self.images * self.trained_gflop / (gpus * tflops * 1000) / 3600

    def decodes_needed(self, gpus: int, tflops: float) -> float:
        """Images or videos per second, of all workers together, that keep such GPUs computing."""
        return gpus * tflops * 1000 / self.trained_gflop

    def data_hours(self, rate: float) -> float:
        """Hours of decoding when each worker delivers ``rate`` images or videos per second."""
        return self.images / (self.workers * rate) / 3600 if self.workers else 0.0


def build_model(config: Mapping[str, Any], device: str = 'cpu') -> nn.Module:
    """The config's model with random weights, frozen teachers included.

    On the device ``meta`` its tensors have shapes and no values.
    """
    model = ConfigDict(copy.deepcopy(config['model']))
    model.backbone.init_cfg = None
    scope = config.get('default_scope') or 'mmengine'
    with untrained_teachers(), DefaultScope.overwrite_default_scope(scope), torch.device(device):
        return MODELS.build(model)


def counted(config: Mapping[str, Any], processes: int) -> tuple[nn.Module, Cost]:
    """A config's model and what it costs, from shapes alone where its step asks for no values.

    That takes a fifth of the time, and the model is good for names and sizes alone. How many
    patches iBOT masks is drawn: its step is computed.
    """
    try:
        model = build_model(config, 'meta')
        return model, cost_of(config, model, processes)
    except (DataDependentOutputException, DynamicOutputShapeException):
        model = build_model(config)
        return model, cost_of(config, model, processes)


def cost_of(config: Mapping[str, Any], model: nn.Module, processes: int) -> Cost:
    """Count a model that `build_model` made."""
    parameters = {'backbone': sum(p.numel() for p in model.backbone.parameters())}
    for name, child in model.named_children():
        if name not in ('backbone', 'data_preprocessor'):
            count = sum(p.numel() for p in child.parameters())
            parameters |= {name: count} if count else {}
    samples = _samples(config)
    of_run = dict(
        images=_images(config, processes),
        workers=_workers(config, processes),
        unit='video' if lookup(config, 'train_dataloader.dataset.sampling') else 'image',
        samples=samples,
    )
    # A distillation is tested, but what it costs are its steps.
    if config.get('train_cfg') and (not config.get('test_cfg') or hasattr(model, 'exported')):
        parts = _step_gflop(config, model)
        gflop = {name: round(count, 3) for name, count in parts.items()}
        return Cost(
            parameters, {}, round(samples * sum(parts.values()), 3), step_gflop=gflop, **of_run
        )
    total, backbone = _forward_gflop(config, model)
    frozen = not any(p.requires_grad for p in model.backbone.parameters())
    trained = TRAINED * (total - backbone) + (FROZEN if frozen else TRAINED) * backbone
    gflop = {'backbone': round(backbone, 3), 'rest': round(total - backbone, 3)}
    return Cost(parameters, gflop, round(samples * trained, 3), **of_run)


def _workers(config: Mapping[str, Any], processes: int) -> int:
    """Workers of all processes that decode whole images of ImageNet or videos, else 0."""
    if not lookup(config, 'train_dataloader.dataset.views'):
        return 0
    return (lookup(config, 'train_dataloader.num_workers') or 0) * processes


def _step_gflop(config: Mapping[str, Any], model: nn.Module) -> dict[str, float]:
    """GFLOP of a step by part, per image, or per clip of a video: several of one take long."""
    count = STEP_IMAGES
    if _samples(config) > 1:
        config, count = copy.deepcopy(dict(config)), 1
        config['train_dataloader']['dataset']['views']['samples'] = 1
    batch = make_batch(config, count)
    if hasattr(model, 'fit') and not _is_meta(model):  # without values there is nothing to fit
        with torch.no_grad():
            model.fit(iter([model.data_preprocessor(batch, True)['inputs']]))
    with _as_built(model):
        parts = training_flops(model, batch)
    return {name: flops / count / 1e9 for name, flops in parts.items()}


def _is_meta(model: nn.Module) -> bool:
    return next(model.parameters()).is_meta


@contextmanager
def _as_built(model: nn.Module) -> Iterator[None]:
    """Where a model that was built on ``meta`` computes shapes, as if on a CPU; any other, all."""
    if not _is_meta(model):
        yield
        return
    with FakeTensorMode(allow_non_fake_inputs=True):
        model.to_empty(device='cpu')
        for module in model.modules():
            if hasattr(module, 'fitted'):  # all that a step asks for by value: a constant has one
                module.fitted = torch.tensor(True)
        if hasattr(look := getattr(model, 'diagnostics', None), 'steps'):
            look.steps = 1  # the first step looks at values, the second does not
        yield


def _samples(config: Mapping[str, Any]) -> int:
    """Training samples that are made of one decoded video, 1 of images."""
    return lookup(config, 'train_dataloader.dataset.views.samples') or 1


@torch.no_grad()
def _forward_gflop(config: Mapping[str, Any], model: nn.Module) -> tuple[float, float]:
    """GFLOP of the whole model and of its backbone."""
    model.eval()
    size = image_size(config)
    frames = [model.backbone.frames] if hasattr(model.backbone, 'frames') else []
    # The fused CPU attention has no counting rule; the plain one is made of counted products.
    with _as_built(model), sdpa_kernel(SDPBackend.MATH):
        images = torch.zeros(1, 3, *frames, size, size)
        with FlopCounterMode(display=False) as counter:
            if 'roi_head' in config['model']:
                _detect(model, images)
            else:
                model(images, mode='tensor')
        counts = counter.get_flop_counts()
        whole, own = type(model).__name__, type(model.backbone).__name__
        parts = counts.get(f'{whole}.backbone') or counts.get(own)
        if parts is None:  # it was asked for features, not called
            with FlopCounterMode(display=False) as alone:
                model.backbone.features(images)
            return counter.get_total_flops() / 1e9, alone.get_total_flops() / 1e9
    return counter.get_total_flops() / 1e9, sum(parts.values()) / 1e9


def _detect(model: nn.Module, images: Tensor) -> None:
    """A detector's forward pass: boxes of 1,000 proposals, masks of 100."""
    model.rpn_head(model.neck(model.backbone(images)))
    heads = model.roi_head
    for part, count in dict(bbox=PROPOSALS, mask=MASKS).items():
        extractor = getattr(heads, f'{part}_roi_extractor')
        edges = extractor.roi_layers[0].output_size
        getattr(heads, f'{part}_head')(torch.zeros(count, extractor.out_channels, *edges))


def _images(config: Mapping[str, Any], processes: int) -> int:
    loop = config.get('train_cfg') or {}
    batch = (lookup(config, 'train_dataloader.batch_size') or 0) * processes
    if 'max_iters' in loop:
        return loop['max_iters'] * batch
    # A probe on cached features passes over the images as often as it caches them.
    passes = loop.get('cached_passes') or loop.get('max_epochs', 0)
    return passes * images_of(lookup(config, 'train_dataloader.dataset') or {})


def images_of(dataset: Mapping[str, Any]) -> int:
    """Images of a data set's config, 0 where its folder is none that is known."""
    split = dataset.get('split', 'train')
    count = (VAL_IMAGES if split == 'val' else TRAIN_IMAGES).get(dataset.get('root'), 0)
    if dataset.get('classes') == IMAGENET100:
        count = IMAGENET100_IMAGES[split]
    return round(count * (dataset.get('subset') or {}).get('share', 1))
