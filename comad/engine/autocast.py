"""Mixed precision in bfloat16, on every device that computes in it."""

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from mmengine.device import get_device
from mmengine.optim import OptimWrapper
from mmengine.registry import OPTIM_WRAPPERS
from torch import Tensor, nn

DTYPES = ('bfloat16', 'float32')
SHORT = (torch.bfloat16, torch.float16)
# Parts of mmdet's detectors that say in what type anchors and boxes are computed: dense heads by
# their scores, extractors by the maps that they read. Cascades have a list of heads.
HEADS = re.compile(r'(rpn_head|bbox_head|roi_head\.bbox_head(\.\d+)?)')
EXTRACTORS = re.compile(r'roi_head\.(bbox|mask)_roi_extractor(\.\d+)?')


def device_type() -> str:
    """The kind of device that a run uses here: 'cuda', 'cpu' or another of torch's names."""
    return torch.device(get_device()).type


def computes_in_bfloat16(device: str) -> bool:
    """Whether a device ('cuda', 'cpu', ...) multiplies bfloat16 matrices in hardware."""
    if device == 'cuda':
        return torch.cuda.is_available() and torch.cuda.is_bf16_supported(False)
    if device == 'cpu':
        checks = ('_is_amx_tile_supported', '_is_avx512_bf16_supported')
        return any(getattr(torch.cpu, name, bool)() for name in checks)
    return True


@OPTIM_WRAPPERS.register_module()
class AutocastOptimWrapper(OptimWrapper):
    """Forward passes under autocast, in bfloat16; weights, gradients and optimizer in float32.

    MMEngine's AmpOptimWrapper needs an accelerator and scales losses, which bfloat16 does not
    need and which makes the host wait for the device at every step.

    Args:
        dtype: 'bfloat16', or 'float32' for none.
        clip_grad: of OptimWrapper; ``per_tensor=True`` clips the norm of each tensor by itself, as
            the codes of DINO and iBOT do, and logs the largest.
        options: of OptimWrapper.

    Raises:
        ValueError: another dtype; float16 needs AmpOptimWrapper.
    """

    def __init__(
        self,
        dtype: str = 'bfloat16',
        clip_grad: dict[str, Any] | None = None,
        **options: Any,
    ) -> None:
        if dtype not in DTYPES:
            raise ValueError(
                f'optim_wrapper.dtype={dtype!r}: expected {" or ".join(DTYPES)}; '
                "float16 needs type='AmpOptimWrapper', which scales the loss"
            )
        clip_grad = dict(clip_grad) if clip_grad else None
        per_tensor = clip_grad is not None and clip_grad.pop('per_tensor', False)
        super().__init__(clip_grad=clip_grad, **options)
        if per_tensor:
            self.clip_func = clip_each
        self.dtype = dtype
        self.norm: Tensor | None = None

    def _clip_grad(self) -> None:
        """Clip as OptimWrapper does; the norm stays on its device until a line is logged."""
        groups = self.optimizer.param_groups
        clipped = [p for group in groups for p in group['params'] if p.grad is not None]
        if clipped:
            self.norm = self.clip_func(clipped, **self.clip_grad_kwargs)

    def take_norm(self) -> dict[str, Tensor]:
        """Norm of the gradients of the last step under the name of the log, once."""
        norm, self.norm = self.norm, None
        return {} if norm is None else {self.grad_name: norm}

    @contextmanager
    def optim_context(self, model: nn.Module) -> Iterator[None]:
        """Autocast on the model's device, and what OptimWrapper does."""
        kind = next(model.parameters()).device.type
        enabled = self.dtype == 'bfloat16'
        with (
            super().optim_context(model),
            torch.autocast(kind, torch.bfloat16, enabled=enabled),
        ):
            yield


@torch.no_grad()
def clip_each(parameters: Sequence[nn.Parameter], max_norm: float) -> Tensor:
    """Bring the gradient of each parameter to a norm of at most ``max_norm``.

    Returns:
        The largest norm before.
    """
    gradients = [parameter.grad for parameter in parameters]
    norms = torch.stack(torch._foreach_norm(gradients))
    factors = (max_norm / (norms + 1e-6)).clamp(max=1)
    torch._foreach_mul_(gradients, list(factors.unbind()))
    return norms.max()


def keep_geometry(model: nn.Module) -> None:
    """Let a detector's anchors, RoIs and decoded boxes stay in float32 under autocast.

    mmdet computes them in the type of scores and maps, and bfloat16 with its 8 bits would round
    them to steps of 4 px from 512 px on. So scores, box deltas and the maps that RoIs are taken
    from are widened; layers still compute in bfloat16. In float32, and in other models, nothing
    changes.
    """
    for name, module in model.named_modules():
        if HEADS.fullmatch(name):
            module.register_forward_hook(lambda module, inputs, outputs: _widened(outputs))
        elif EXTRACTORS.fullmatch(name):
            module.register_forward_pre_hook(lambda module, inputs: _widened(inputs))


def _widened(values: Any) -> Any:
    if isinstance(values, torch.Tensor):
        return values.float() if values.dtype in SHORT else values
    return type(values)(map(_widened, values)) if isinstance(values, list | tuple) else values
