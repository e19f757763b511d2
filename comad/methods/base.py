"""What every pretraining method offers to the runner, the exporter and the student card."""

import random
from abc import ABCMeta, abstractmethod
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import numpy as np
import torch
from mmengine.dataset import pseudo_collate
from mmengine.logging import MessageHub
from mmengine.model import BaseModel
from mmengine.registry import MODELS
from timm.models.vision_transformer import Block
from torch import Tensor, nn

from backbones.contract import BlockNetwork, check_offers
from backbones.frozen import Frozen

Images = Tensor | list[Tensor]


class PretrainMethod(BaseModel, metaclass=ABCMeta):
    """A student backbone and a way to train it.

    A subclass implements :meth:`loss`. State that must survive a resume lives in buffers;
    schedules read :meth:`progress`, which follows the runner's step counter.

    Args:
        backbone: config of the student.
        data_preprocessor: config of the preprocessor.

    Attributes:
        backbone: the student; what the exporter writes unless ``exported`` says otherwise.
        method_version: changes whenever the same config would train something else.
        needs: what the method reads of its student: 'tokens', 'maps' or 'logits'.
        vit_only: whether its student has to have blocks, which CNNs and Swin have not.
        reads_labels: whether :meth:`loss` takes the labels of the images as a second argument.
        teacher_cards: one card per frozen teacher (family, file, digest, licence); empty without.
    """

    method_version = '1'
    needs = 'tokens'
    vit_only = False
    reads_labels = False

    def __init__(
        self, backbone: dict[str, Any], data_preprocessor: dict[str, Any] | None = None
    ) -> None:
        super().__init__(data_preprocessor=data_preprocessor)
        self.backbone = MODELS.build(backbone)
        check_offers(self.backbone, self.needs, f'student {type(self.backbone).__name__}')
        if self.vit_only and not isinstance(self.backbone, BlockNetwork):
            raise ValueError(
                f'student {backbone.get("arch") or type(self.backbone).__name__} has no blocks: '
                f'{type(self).__name__} trains ViTs only; CoMAD and DMT train any network'
            )
        self.arch = backbone.get('arch', 'tiny').removeprefix('sample_')
        self.teacher_cards: list[dict[str, Any]] = []

    @property
    def exported(self) -> nn.Module:
        """The network that becomes the student file."""
        return self.backbone

    def prepare(self, runner: Any) -> None:
        """Called once before the first step of a new run, on every rank; not on resume."""

    def fit(self, batches: Iterator[Tensor]) -> None:
        """Fit on batches of (B, 3, H, W) training images what no gradient trains; often nothing."""

    def compile_parts(self, **options: Any) -> None:
        """Compile teachers, student and decoder in place; ``options`` of torch.compile.

        A teacher is compiled whole, trained networks block by block: their blocks share one code.
        """
        frozen: set[nn.Module] = set()
        for module in self.modules():
            if isinstance(module, Frozen):
                module.compile_calls(**options)
                frozen.update(module.modules())
        for module in self.modules():
            if isinstance(module, Block) and module not in frozen:
                module.compile(dynamic=False, **options)

    def progress(self) -> float:
        """Share of the training that is done, 0 before the first step; 0 outside a runner."""
        hub = MessageHub.get_current_instance()
        total = hub.get_info('max_iters') or 0
        return min(1.0, (hub.get_info('iter') or 0) / total) if total else 0.0

    def epoch(self) -> tuple[int, int]:
        """Epoch and their number; steps where none are counted; (0, 0) outside a runner."""
        hub = MessageHub.get_current_instance()
        for now, total in (('epoch', 'max_epochs'), ('iter', 'max_iters')):
            if (hub.get_info(total) or 0) > 1:
                return hub.get_info(now) or 0, hub.get_info(total)
        return 0, 0

    def follow(self, optimizer: torch.optim.Optimizer) -> None:
        """Let :meth:`before_step` and :meth:`after_step` be called at every step of it."""
        optimizer.register_step_pre_hook(lambda *_: self.before_step())
        optimizer.register_step_post_hook(lambda *_: self.after_step())

    def before_step(self) -> None:
        """Called with the gradients of a step, after they were clipped; may change or drop them."""

    def after_step(self) -> None:
        """Called when the optimizer has changed the parameters; averages follow them here."""

    def forward(
        self, inputs: Images, labels: Tensor | None = None, mode: str = 'loss'
    ) -> dict[str, Tensor] | list[dict[str, Any]] | Tensor:
        """Losses and diagnostics, what the student gives, or predictions.

        Args:
            inputs: (B, 3, H, W) normalised images, or a list of such, one per view.
            labels: (B,) long; for a method with ``reads_labels``, and for 'predict'.
            mode: 'loss'; 'tensor' for what the method ``needs`` of the student; 'predict', see
                :meth:`predict`.

        Raises:
            ValueError: on any other mode.
        """
        if mode == 'loss':
            return self.loss(inputs, labels) if self.reads_labels else self.loss(inputs)
        if mode == 'tensor':
            return getattr(self.backbone, self.needs)(inputs)
        if mode == 'predict':
            return self.predict(inputs, labels)
        raise ValueError(f"mode={mode!r}: pretraining knows 'loss', 'tensor' and 'predict'")

    def predict(self, inputs: Images, labels: Tensor | None = None) -> list[dict[str, Any]]:
        """What the run's metrics read, of methods that train a classifier; see `metrics.Accuracy`.

        Raises:
            ValueError: this method trains none.
        """
        raise ValueError(f'{type(self).__name__} trains no classifier: it has no predictions')

    def explain(self, images: Tensor) -> Any:
        """What a picture of these images needs, a type of ``EXPLANATIONS``; None: no picture.

        Args:
            images: (B, 3, H, W), normalised.
        """
        return None

    @abstractmethod
    def loss(self, inputs: Images) -> dict[str, Tensor]:
        """Summands named ``loss_*``, already weighted, and diagnostics without that word.

        With ``reads_labels`` it is ``loss(inputs, labels)``.
        """


@torch.no_grad()
def effective_rank(tokens: Tensor) -> Tensor:
    """exp(entropy) of the normalised eigenvalues of the covariance of tokens (..., D).

    1 when all tokens lie on a line, D when all directions carry equal variance. In float32 under
    autocast as well: a GPU has no eigenvalues of bfloat16, and its products would round them.
    """
    with full_precision(tokens):
        x = tokens.detach().reshape(-1, tokens.shape[-1]).float()
        x = x - x.mean(0)
        values = torch.linalg.eigvalsh(x.T @ x).clamp(min=0)
        shares = values / values.sum().clamp(min=torch.finfo(values.dtype).tiny)
        return torch.special.entr(shares).sum().exp()


@torch.no_grad()
def update_average(average: nn.Module, model: nn.Module, momentum: float) -> None:
    """average = momentum * average + (1 - momentum) * model, for the parameters of ``average``.

    Parameters are matched by name; what only ``model`` has (a mask token) is left alone.
    """
    current = dict(model.named_parameters())
    old = [parameter.detach() for parameter in average.parameters()]
    new = [current[name].detach() for name, _ in average.named_parameters()]
    torch._foreach_lerp_(old, new, 1 - momentum)


def full_precision(like: Tensor) -> AbstractContextManager:
    """Switch autocast off on the device of ``like``: targets and losses stay in float32."""
    return torch.autocast(like.device.type, enabled=False)


def at_least_float(x: Tensor) -> Tensor:
    """float32 of what is narrower; float64 stays."""
    return x if x.dtype == torch.float64 else x.float()


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Seed Python, NumPy and torch, and restore their states afterwards."""
    states = random.getstate(), np.random.get_state()
    devices = [torch.cuda.current_device()] if torch.cuda.is_available() else []
    with torch.random.fork_rng(devices):
        random.seed(seed)
        np.random.seed(seed % 2**32)
        torch.manual_seed(seed)
        try:
            yield
        finally:
            random.setstate(states[0])
            np.random.set_state(states[1])


def training_batches(
    runner: Any, preprocessor: nn.Module, count: int, batch_size: int = 64
) -> Iterator[Tensor]:
    """Batches (B, 3, H, W) of ``count`` training images, drawn and augmented by the run's seed."""
    dataset = runner.train_dataloader.dataset
    with seeded(runner.seed):
        chosen = torch.randperm(len(dataset))[:count].tolist()
        for start in range(0, len(chosen), batch_size):
            items = [dataset[i] for i in chosen[start : start + batch_size]]
            yield preprocessor(pseudo_collate(items), training=True)['inputs']
