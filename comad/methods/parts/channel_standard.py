"""Bringing every channel of a teacher's tokens to mean 0 and standard deviation 1."""

import torch
from torch import Tensor, nn

FLOOR = 1e-3  # of the largest deviation: a dead channel is not blown up to noise


class ChannelStandard(nn.Module):
    """Mean and standard deviation per channel, found once and saved with the model.

    Most of a pretrained token is what all tokens of that network share: after a LayerNorm alone the
    cosine of two random patches of the sample's MoCo v3 or iBOT teacher is above 0.9, and a student
    that predicts a constant is nearly perfect.

    Args:
        dim: D, channels.
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.register_buffer('mean', torch.zeros(dim))
        self.register_buffer('deviation', torch.ones(dim))
        self.register_buffer('fitted', torch.tensor(False))
        self._ready = False
        self._count, self._sum, self._square = 0, 0.0, 0.0

    @torch.no_grad()
    def update(self, tokens: Tensor) -> None:
        """Add tokens (..., D) to the sums, in float64."""
        rows = tokens.reshape(-1, tokens.shape[-1]).double()
        self._count += len(rows)
        self._sum = self._sum + rows.sum(0).cpu()
        self._square = self._square + rows.square().sum(0).cpu()

    @torch.no_grad()
    def finish(self) -> None:
        """Take mean and deviation from the sums, which begin anew.

        Raises:
            RuntimeError: without tokens.
        """
        if not self._count:
            raise RuntimeError('no tokens were given to find means and deviations from')
        mean = self._sum / self._count
        deviation = (self._square / self._count - mean.square()).clamp(min=0).sqrt()
        self.mean.copy_(mean)
        self.deviation.copy_(deviation.clamp(min=FLOOR * float(deviation.max())))
        self.fitted.fill_(True)
        self._count, self._sum, self._square = 0, 0.0, 0.0

    def forward(self, tokens: Tensor) -> Tensor:
        """(..., D) -> (..., D) float32.

        Raises:
            RuntimeError: if nothing was fitted or loaded.
        """
        # Asked on the device only until the answer is yes, to spare a synchronisation per step.
        self._ready = self._ready or bool(self.fitted)
        if not self._ready:
            raise RuntimeError('targets are not fitted: prepare() or a checkpoint comes first')
        return (tokens.float() - self.mean) / self.deviation
